-- Leaderboards that take submissions now.
-- The wall clock, because enqueue_jobs looks after it has waited for a lock.
CREATE VIEW open_leaderboard AS
SELECT board.id
FROM leaderboards_leaderboard board
WHERE board.takes_submissions
    AND NOT board.is_draft
    AND (board.opens_at IS NULL OR board.opens_at <= clock_timestamp())
    AND (board.closes_at IS NULL OR board.closes_at > clock_timestamp())
    AND NOT EXISTS (SELECT FROM leaderboards_pause pause WHERE pause.leaderboard_id = board.id);
