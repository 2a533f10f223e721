-- Tokens that most often lead to wrong answers, by task: how many failures have them among their top tokens
-- $task = null: only this task
-- $top = 3: how many top tokens of a failure count
-- $limit = 50: at most so many rows
WITH top AS (
    SELECT
        failure_id,
        unnest(max_by(
            {'token': token, 'segment': segment, 'relevance': relevance, 'relevance_norm': relevance_norm},
            abs(relevance), $top::BIGINT
        ), max_depth := 2)
    FROM tokens
    WHERE NOT special
    GROUP BY failure_id
)
SELECT
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    f.task,
    t.token,
    count(DISTINCT f.failure_id) AS failures,
    round(avg(t.relevance_norm), 4) AS mean_relevance,
    mode(t.segment) AS mostly_in
FROM top AS t
JOIN failures AS f ON f.failure_id = t.failure_id
JOIN runs AS r ON r.run_id = f.run_id
WHERE t.relevance > 0 AND f.status <> 'right since' AND ($task::VARCHAR IS NULL OR f.task = $task::VARCHAR)
GROUP BY r.run_id, r.model, r.rule, f.task, t.token
ORDER BY failures DESC, mean_relevance DESC, r.model, f.task, t.token
LIMIT $limit::BIGINT
