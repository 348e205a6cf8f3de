-- Tokens that are valid now: neither revoked nor expired, and their owner is active.
-- The wall clock, because enqueue_jobs looks again after it has waited for a lock.
CREATE VIEW live_token AS
SELECT token.id, token.digest, token.user_id
FROM accounts_apitoken token
JOIN accounts_user person ON person.id = token.user_id
WHERE person.is_active
    AND token.revoked_at IS NULL
    AND (token.expires_at IS NULL OR token.expires_at > clock_timestamp());

-- Lock these people's rows until the transaction ends, and return them as they are now.
-- Always in the order of the ids, so that two transactions never wait for each other.
-- Without `waits`, rows that another transaction holds are left out.
CREATE FUNCTION lock_people(people bigint[], waits boolean)
RETURNS TABLE (person bigint, is_active boolean, submissions_per_hour integer, concurrent_jobs integer)
LANGUAGE plpgsql VOLATILE SET search_path = public, pg_temp AS $$
BEGIN
    IF waits THEN
        RETURN QUERY
        SELECT owner.id, owner.is_active, owner.submissions_per_hour, owner.concurrent_jobs
        FROM accounts_user owner WHERE owner.id = ANY (people) ORDER BY owner.id FOR UPDATE;
    ELSE
        RETURN QUERY
        SELECT owner.id, owner.is_active, owner.submissions_per_hour, owner.concurrent_jobs
        FROM accounts_user owner WHERE owner.id = ANY (people) ORDER BY owner.id FOR UPDATE SKIP LOCKED;
    END IF;
END $$;
