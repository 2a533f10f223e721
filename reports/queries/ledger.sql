-- Is it the model: what each kind of artefact cost a task, what mending it would break, and the score without
-- $run = null: only runs whose id starts so
-- net: proved less broken, in documents, for the whole task; low and high: its 95 % interval, where not all were tried.
SELECT
    r.model,
    l.task,
    l.kind,
    l.failures,
    l.proved,
    l.broken,
    round(l.net, 1) AS net,
    l.suspects,
    round(100 * l.score_as_run, 1) AS as_run,
    round(100 * l.score_without, 1) AS without,
    CASE WHEN l.net_low < l.net_high THEN round(100 * l.score_low, 1) END AS low,
    CASE WHEN l.net_low < l.net_high THEN round(100 * l.score_high, 1) END AS high,
    l.concerned,
    l.tried,
    l.remedy,
    l.note
FROM ledger AS l
JOIN runs AS r ON r.run_id = l.run_id
WHERE $run::VARCHAR IS NULL OR starts_with(l.run_id, $run::VARCHAR)
ORDER BY r.started_at, r.run_id, l.task, l.kind <> 'all', l.net DESC, l.suspects DESC, l.kind
