-- A submission counts unless each job that its owner made of it costs nothing.
CREATE OR REPLACE FUNCTION submission_costs_quota(uuid) RETURNS boolean LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT EXISTS (SELECT FROM jobs_job job WHERE job.submission_id = $1 AND job.costs_quota)
        OR NOT EXISTS (SELECT FROM jobs_job job WHERE job.submission_id = $1 AND NOT job.is_by_operator);
END;

-- A person's use of an hourly quota, that of a `job` or a `submission` (`what`), in the hour before `moment`.
-- Jobs that operators started are no part of it.
-- Two limits hold: `quota` items that count, and three times as many in all. `remaining` more are allowed now.
-- `reached`: the limit that is used up while none is left. `seconds_until_free`: until one more is allowed, empty while
-- one is. `seconds_until_back`: until the earliest item that counts has left the hour, empty when none counts.
-- The planner puts this query in place of the call, and leaves out the columns that nobody asks for.
CREATE FUNCTION hourly_use(what text, person bigint, usual_quota bigint, moment timestamptz)
RETURNS TABLE (
    quota bigint, counted bigint, sent bigint, remaining bigint, reached bigint,
    seconds_until_free double precision, seconds_until_back double precision
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT allowed.quota, used.counted, used.sent,
        greatest(0, least(allowed.quota - used.counted, allowed.in_all - used.sent)),
        CASE WHEN used.counted >= allowed.quota THEN allowed.quota ELSE allowed.in_all END,
        extract(epoch FROM greatest(
            CASE WHEN used.counted >= allowed.quota THEN coalesce(used.counted_at[allowed.quota::integer], moment) END,
            CASE WHEN used.sent >= allowed.in_all THEN coalesce(used.first_at, moment) END
        ) + interval '1 hour' - moment)::double precision,
        extract(epoch FROM used.first_counted_at + interval '1 hour' - moment)::double precision
    FROM (
        SELECT own.quota, own.quota * 3 AS in_all
        FROM (
            SELECT coalesce(owner.submissions_per_hour, usual_quota)::bigint AS quota
            FROM accounts_user owner WHERE owner.id = person
        ) own
    ) allowed
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE recent.is_counted) AS counted, count(*) AS sent,
            array_agg(recent.created_at ORDER BY recent.created_at DESC) FILTER (WHERE recent.is_counted) AS counted_at,
            min(recent.created_at) FILTER (WHERE recent.is_counted) AS first_counted_at,
            min(recent.created_at) AS first_at
        FROM (
            (SELECT job.created_at, job.costs_quota AS is_counted FROM jobs_job job
            WHERE what = 'job' AND NOT job.is_by_operator
                AND job.user_id = person AND job.created_at > moment - interval '1 hour'
            ORDER BY job.created_at DESC, job.id DESC LIMIT allowed.in_all)
            UNION ALL
            (SELECT submission.created_at, submission_costs_quota(submission.id) FROM submissions_submission submission
            WHERE what = 'submission'
                AND submission.user_id = person AND submission.created_at > moment - interval '1 hour'
            ORDER BY submission.created_at DESC, submission.id DESC LIMIT allowed.in_all)
        ) recent
    ) used;
END;

-- How many jobs of the person are pending or running, and how many may be. Those that operators started do not count.
-- The order is that of the index job_pending: other indexes have everybody's pending jobs, and seem as good while the
-- table is empty.
CREATE FUNCTION jobs_at_once(person bigint, usual_quota bigint)
RETURNS TABLE (active bigint, quota bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT
        (SELECT count(*) FROM (
            SELECT FROM jobs_job job
            WHERE job.user_id = person AND job.status = 'pending' AND NOT job.is_by_operator
            ORDER BY job.priority, job.created_at, job.id
        ) waiting)
        + (SELECT count(*) FROM jobs_job job
            WHERE job.user_id = person AND job.status = 'running' AND NOT job.is_by_operator),
        coalesce(owner.concurrent_jobs, usual_quota)::bigint
    FROM accounts_user owner WHERE owner.id = person;
END;

-- Make the jobs that are asked for. The one place where people's new jobs are made.
--
-- `requests` is a list of objects: `user_id`, or `token` with the digest of a token; `submission_id`, `config`,
-- `resource_class`, `trial`, `idempotency_key`, `request_digest`, `request_id`.
-- Each request has one row, with its number from 1. Either `job_id` is set (`is_new` is false where the idempotency key had
-- made the job before), or `refusal` is one of:
--     unauthorized          no valid token
--     locked                another transaction holds the person's row (without `waits`)
--     forbidden             the person was banned, or the token ended, meanwhile
--     idempotency_conflict  the key was used before for another request
--     not_found             no such submission of this person
--     deleted               the submission was deleted
--     leaderboard_closed    its leaderboard takes no submissions
--     too_many_jobs         `details` has `active` and `most`
--     hourly_limit          `details` has `reached` and `seconds_until_free`
--     not_tried             an earlier request of the same person was refused (without `waits`)
--
-- With `waits` the rows of people that are locked are waited for, as a single request does. A batch does not wait: what
-- it leaves out is asked for again, and none of its locks is waited for longer than two seconds.
--
-- One statement makes the first job of every person, the next one their second: a statement does not see its own rows, so of
-- one person it can count only one job.
--
-- It has to be VOLATILE under READ COMMITTED: only then does each statement after the lock see what was committed before.
-- Sequential scans are off because its plans are kept, and may have been made while the tables were empty.
CREATE FUNCTION enqueue_jobs(requests jsonb, usual_at_once bigint, usual_per_hour bigint, waits boolean)
RETURNS TABLE (number bigint, job_id uuid, made_at timestamptz, is_new boolean, refusal text, details jsonb)
LANGUAGE plpgsql VOLATILE
SET search_path = public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    people bigint[];
    turns bigint[];  -- of each request: how many of the same person come before it, and itself
    locked bigint[];
    refused bigint[] := '{}';
    moment timestamptz;
    requester bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'enqueue_jobs needs READ COMMITTED, not %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'feature_not_supported';
    END IF;
    IF NOT waits THEN
        PERFORM set_config('lock_timeout', '2s', true);
    END IF;
    people := ARRAY(
        SELECT coalesce(
            (asked.item ->> 'user_id')::bigint,
            (SELECT token.user_id FROM live_token token WHERE token.digest = asked.item ->> 'token')
        )
        FROM jsonb_array_elements(requests) WITH ORDINALITY asked(item, place) ORDER BY asked.place
    );
    locked := ARRAY(SELECT held.person FROM lock_people(people, waits) held);
    turns := ARRAY(
        SELECT row_number() OVER (PARTITION BY asked.person ORDER BY asked.place)
        FROM unnest(people) WITH ORDINALITY asked(person, place) ORDER BY asked.place
    );
    RETURN QUERY
    SELECT asked.place, NULL::uuid, NULL::timestamptz, NULL::boolean,
        CASE WHEN asked.person IS NULL THEN 'unauthorized' WHEN waits THEN 'forbidden' ELSE 'locked' END, '{}'::jsonb
    FROM unnest(people) WITH ORDINALITY asked(person, place)
    WHERE asked.person IS NULL OR asked.person <> ALL (locked);

    FOR turn IN 1 .. coalesce((SELECT max(one) FROM unnest(turns) one), 0) LOOP
        moment := clock_timestamp();
        FOR number, requester, job_id, made_at, is_new, refusal, details IN
            WITH asked AS (
                SELECT listed.place, people[listed.place] AS person, listed.request, gen_random_uuid() AS new_id
                FROM jsonb_array_elements(requests) WITH ORDINALITY listed(request, place)
                WHERE turns[listed.place] = turn AND people[listed.place] = ANY (locked)
            ), looked_at AS MATERIALIZED (
                SELECT asked.place, asked.person, asked.request, asked.new_id,
                    CASE
                        WHEN NOT waits AND asked.person = ANY (refused) THEN 'not_tried'
                        WHEN NOT owner.is_active OR asked.request ? 'token'
                            AND NOT EXISTS (SELECT FROM live_token token WHERE token.digest = asked.request ->> 'token')
                        THEN 'forbidden'
                        WHEN earlier.request_digest <> asked.request ->> 'request_digest' THEN 'idempotency_conflict'
                        WHEN earlier.id IS NOT NULL THEN NULL
                        WHEN submission.id IS NULL THEN 'not_found'
                        WHEN submission.deleted_at IS NOT NULL THEN 'deleted'
                        WHEN NOT EXISTS (SELECT FROM open_leaderboard board WHERE board.id = submission.leaderboard_id)
                        THEN 'leaderboard_closed'
                        WHEN at_once.active >= at_once.quota THEN 'too_many_jobs'
                        WHEN hour.remaining = 0 THEN 'hourly_limit'
                    END AS refusal,
                    earlier.id AS earlier_id, earlier.created_at AS earlier_at, submission.leaderboard_id,
                    at_once.active, at_once.quota
                FROM asked
                JOIN accounts_user owner ON owner.id = asked.person
                LEFT JOIN LATERAL (
                    SELECT job.id, job.request_digest, job.created_at FROM jobs_job job
                    WHERE job.user_id = asked.person AND job.idempotency_key = asked.request ->> 'idempotency_key' LIMIT 1
                ) earlier ON true
                LEFT JOIN LATERAL (
                    SELECT sent.id, sent.deleted_at, sent.leaderboard_id FROM submissions_submission sent
                    WHERE sent.id = (asked.request ->> 'submission_id')::uuid AND sent.user_id = asked.person LIMIT 1
                ) submission ON true
                CROSS JOIN LATERAL jobs_at_once(asked.person, usual_at_once) at_once
                CROSS JOIN LATERAL hourly_use('job', asked.person, usual_per_hour, moment) hour
            ), made AS (
                -- Columns that are not named have a default in the database.
                INSERT INTO jobs_job (
                    id, user_id, submission_id, leaderboard_id, config, resource_class, trial,
                    idempotency_key, request_digest, request_id, created_at, updated_at, available_at, pushed_at,
                    status, priority, attempt, losses, releases, error_code, error_message, params, metrics,
                    isolation, limits_applied, log_name, log_bytes, artifacts, run_id, experiment_id
                )
                SELECT one.new_id, one.person, (one.request ->> 'submission_id')::uuid, one.leaderboard_id,
                    one.request -> 'config', one.request ->> 'resource_class', (one.request ->> 'trial')::boolean,
                    one.request ->> 'idempotency_key', one.request ->> 'request_digest', one.request ->> 'request_id',
                    moment, moment, moment, moment,
                    'pending', 0, 0, 0, 0, '', '', '{}', '{}',
                    '', '{}', '', 0, '[]', '', ''
                FROM looked_at one WHERE one.refusal IS NULL AND one.earlier_id IS NULL
            )
            SELECT one.place, one.person,
                CASE WHEN one.refusal IS NULL THEN coalesce(one.earlier_id, one.new_id) END,
                CASE WHEN one.refusal IS NULL THEN coalesce(one.earlier_at, moment) END,
                CASE WHEN one.refusal IS NULL THEN one.earlier_id IS NULL END,
                one.refusal,
                CASE one.refusal
                    WHEN 'too_many_jobs' THEN jsonb_build_object('active', one.active, 'most', one.quota)
                    WHEN 'hourly_limit' THEN (
                        SELECT jsonb_build_object('reached', use.reached, 'seconds_until_free', use.seconds_until_free)
                        FROM hourly_use('job', one.person, usual_per_hour, moment) use
                    )
                    ELSE '{}'
                END
            FROM looked_at one
        LOOP
            IF refusal IS NOT NULL THEN
                refused := refused || requester;
            END IF;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END $$;
