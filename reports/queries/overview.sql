-- Every run: model, rule, how it ended, and how many of its failures were explained
-- A document counts once, under the filter that decides. kind: an evaluation, or made of one by `compare` or `replay`.
SELECT
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    r.objective,
    r.kind,
    r.status,
    count(DISTINCT t.task) AS tasks,
    coalesce(sum(t.documents), 0)::BIGINT AS documents,
    coalesce(sum(t.failures), 0)::BIGINT AS failures,
    coalesce(sum(t.attributed), 0)::BIGINT AS attributed,
    coalesce(sum(t.clean), 0)::BIGINT AS clean,
    strftime(r.started_at, '%Y-%m-%d %H:%M') AS started,
    round(epoch(r.finished_at - r.started_at) / 60, 1) AS minutes
FROM runs AS r
LEFT JOIN tasks AS t ON t.run_id = r.run_id AND t.decides
GROUP BY r.run_id, r.model, r.rule, r.objective, r.kind, r.status, r.started_at, r.finished_at
ORDER BY r.started_at, r.run_id
