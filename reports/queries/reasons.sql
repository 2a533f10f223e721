-- Why failures have no pair, no attribution, or a pair that is not clean: one row a task and kind of reason
-- $run = null: only runs whose id starts so
WITH found AS (
    SELECT f.run_id, f.task, f.filter, f.status, c.strategy, c.clean, f.failure_id,
           CASE WHEN NOT c.clean THEN c.unclean ELSE f.reason END AS reason
    FROM failures AS f
    LEFT JOIN contrasts AS c ON c.failure_id = f.failure_id
    WHERE c.clean IS NOT TRUE AND f.status <> 'right since' AND ($run::VARCHAR IS NULL OR starts_with(f.run_id, $run::VARCHAR))
),
told AS (
    SELECT
        *,
        regexp_replace(regexp_replace(reason, '([''"“‘`«]).*?([''"”’`»])', '…', 'g'), '\d+(\.\d+)?', '…', 'g') AS kind
    FROM found
)
SELECT
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    t.task,
    t.filter,
    t.status,
    t.strategy,
    t.clean,
    t.kind AS reason,
    count(*) AS failures,
    min_by(t.reason, t.failure_id) AS with_figures,
    min(t.failure_id) AS example
FROM told AS t
JOIN runs AS r ON r.run_id = t.run_id
GROUP BY r.run_id, r.model, r.rule, r.started_at, t.task, t.filter, t.status, t.strategy, t.clean, t.kind
ORDER BY r.started_at, r.run_id, t.task, t.filter, failures DESC, t.status, t.strategy, t.kind
