"""The pages of jobs: one's work, a job, its log and files, several side by side. Another's job is 404."""
