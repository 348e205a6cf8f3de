"""A short way to the answers that programs ask for all the time: a job's status, a new job, a submission.

The lane knows the plain, successful case of these calls, and nothing else. Whatever is not plain (an error of any kind, a
header or an option that is not on its lists, another language, maintenance) it leaves untouched to the whole site, which
then answers as it always has: so refusals, and what they say, live in one place. docs/adr/0019 says more.
"""
