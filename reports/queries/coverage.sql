-- How many failures got a pair, by which strategy, the clean share, and why the others got none, by task
-- $run = null: only runs whose id starts so
-- examined: failures that were tried, all but those outside the sample and those right since. Shares are of these. The clean share of one
-- benchmark is itself a result: the paper kept 13.5 to 36 %. The query `reasons` gives every reason a row of its own.
-- Reasons are grouped by kind, figures and quotations as `…`. pair_low to clean_high: Wilson's 95 % interval, where a sample was examined.
WITH sampled AS (
    SELECT run_id, task, filter, bool_or(status = 'not sampled') AS sampled FROM failures GROUP BY ALL
),
told AS (
    SELECT f.run_id, f.task, f.filter, c.strategy, c.clean, CASE WHEN NOT c.clean THEN c.unclean ELSE f.reason END AS reason
    FROM failures AS f
    LEFT JOIN contrasts AS c ON c.failure_id = f.failure_id
    WHERE f.status NOT IN ('not sampled', 'right since') AND ($run::VARCHAR IS NULL OR starts_with(f.run_id, $run::VARCHAR))
),
examined AS (
    SELECT * REPLACE (
        regexp_replace(regexp_replace(reason, '([''"“‘`«]).*?([''"”’`»])', '…', 'g'), '\d+(\.\d+)?', '…', 'g') AS reason
    )
    FROM told
),
counted AS (
    SELECT
        run_id, task, filter,
        count(*) AS examined, count(strategy) AS pairs, count(*) FILTER (WHERE clean) AS clean
    FROM examined
    GROUP BY ALL
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
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    c.task,
    c.filter,
    c.examined,
    c.pairs,
    round(c.pairs / c.examined, 4) AS pair_share,
    CASE WHEN s.sampled THEN wilson_low(c.pairs, c.examined) END AS pair_low,
    CASE WHEN s.sampled THEN wilson_high(c.pairs, c.examined) END AS pair_high,
    c.clean,
    round(c.clean / c.examined, 4) AS clean_share,
    CASE WHEN s.sampled THEN wilson_low(c.clean, c.examined) END AS clean_low,
    CASE WHEN s.sampled THEN wilson_high(c.clean, c.examined) END AS clean_high,
    p.pairs_by_strategy,
    x.reasons
FROM counted AS c
JOIN sampled AS s USING (run_id, task, filter)
JOIN runs AS r USING (run_id)
LEFT JOIN strategies AS p USING (run_id, task, filter)
LEFT JOIN reasons AS x USING (run_id, task, filter)
ORDER BY r.started_at, r.run_id, c.task, c.filter
