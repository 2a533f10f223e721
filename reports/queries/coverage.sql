-- How many failures got a pair, by which strategy, the clean share, and why the others got none, by task
-- $run = null: only runs whose id starts so
-- examined: failures that were tried, all but those outside the sample and those right since. Shares are of these. The clean share of one
-- benchmark is itself a result: the paper kept 13.5 to 36 %. The query `reasons` gives every reason a row of its own.
WITH examined AS (
    SELECT f.run_id, f.task, f.filter, c.strategy, c.clean, f.status,
           CASE WHEN NOT c.clean THEN c.unclean ELSE f.reason END AS reason
    FROM failures AS f
    LEFT JOIN contrasts AS c ON c.failure_id = f.failure_id
    WHERE f.status NOT IN ('not sampled', 'right since') AND ($run::VARCHAR IS NULL OR starts_with(f.run_id, $run::VARCHAR))
),
strategies AS (
    SELECT run_id, task, filter, string_agg(strategy || ' ' || n, ', ' ORDER BY n DESC, strategy) AS pairs_by_strategy
    FROM (SELECT run_id, task, filter, strategy, count(*) AS n FROM examined WHERE strategy IS NOT NULL GROUP BY ALL)
    GROUP BY ALL
),
reasons AS (
    SELECT run_id, task, filter, string_agg(n || ' × ' || reason, '; ' ORDER BY n DESC, reason) AS reasons
    FROM (
        SELECT run_id, task, filter, reason, count(*) AS n
        FROM examined
        WHERE reason <> '' AND clean IS NOT TRUE
        GROUP BY ALL
    )
    GROUP BY ALL
)
SELECT
    r.model,
    e.task,
    e.filter,
    count(*) AS examined,
    count(e.strategy) AS pairs,
    round(count(e.strategy) / count(*), 4) AS pair_share,
    count(*) FILTER (WHERE e.clean) AS clean,
    round(count(*) FILTER (WHERE e.clean) / count(*), 4) AS clean_share,
    any_value(s.pairs_by_strategy) AS pairs_by_strategy,
    any_value(x.reasons) AS reasons
FROM examined AS e
JOIN runs AS r ON r.run_id = e.run_id
LEFT JOIN strategies AS s ON s.run_id = e.run_id AND s.task = e.task AND s.filter = e.filter
LEFT JOIN reasons AS x ON x.run_id = e.run_id AND x.task = e.task AND x.filter = e.filter
GROUP BY r.run_id, r.model, r.started_at, e.task, e.filter
ORDER BY r.started_at, r.run_id, e.task, e.filter
