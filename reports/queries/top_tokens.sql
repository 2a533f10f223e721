-- The tokens of one failure that count most, toward the wrong and toward the right answer
-- $failure_id: of the failure, or its first letters
-- $limit = 10: so many on each side
-- Special tokens are left out of every ranking.
SELECT
    f.failure_id,
    CASE WHEN t.relevance > 0 THEN 'wrong' ELSE 'right' END AS toward,
    t.position,
    t.token,
    t.segment,
    t.relevance,
    t.relevance_norm
FROM tokens AS t
JOIN failures AS f ON f.failure_id = t.failure_id
WHERE f.failure_id IN (SELECT failure_id FROM failures WHERE starts_with(failure_id, $failure_id::VARCHAR))
    AND NOT t.special
    AND t.relevance <> 0
QUALIFY row_number() OVER (PARTITION BY f.failure_id, toward ORDER BY abs(t.relevance) DESC, t.position) <= $limit::BIGINT
ORDER BY f.failure_id, toward DESC, abs(t.relevance) DESC, t.position
