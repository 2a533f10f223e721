-- The tokens of one failure that count most, toward the wrong and toward the right answer
-- $failure_id: of the failure, or its first letters
-- $limit = 10: so many on each side
-- Special tokens are left out of every ranking.
SELECT
    failure_id,
    CASE WHEN relevance > 0 THEN 'wrong' ELSE 'right' END AS toward,
    position,
    token,
    segment,
    relevance,
    relevance_norm
FROM tokens
WHERE starts_with(failure_id, $failure_id::VARCHAR) AND NOT special AND relevance <> 0
QUALIFY row_number() OVER (PARTITION BY failure_id, toward ORDER BY abs(relevance) DESC, position) <= $limit::BIGINT
ORDER BY failure_id, toward DESC, abs(relevance) DESC, position
