-- What kind of failure, by task: labels decided by experiment, with their share of the attributed failures
-- $run = null: only runs whose id starts so
-- M-IA: manifest in the input attribution; M-AG: in the attribution graph; NC: no clue from either; empty: not decided.
-- by_chance: of the failures with this label, the share that random places turn as well, by the draws that decided it.
-- low, high: Wilson's 95 % interval of the share, where a sample of the failures was explained.
WITH sampled AS (
    SELECT run_id, task, filter, bool_or(status = 'not sampled') AS sampled FROM failures GROUP BY ALL
),
deciding AS (
    SELECT failure_id, min(chance) FILTER ("check" = 'mask_top_words') AS of_words, min(chance) FILTER ("check" <> 'mask_top_words') AS of_graph
    FROM checks
    WHERE turned AND "check" IN ('mask_top_words', 'ablate_nodes', 'ablate_heads')
    GROUP BY failure_id
),
counted AS (
    SELECT
        f.run_id,
        f.task,
        f.filter,
        f.label,
        count(*) AS failures,
        sum(count(*)) OVER (PARTITION BY f.run_id, f.task, f.filter)::BIGINT AS explained,
        avg(CASE f.label WHEN 'M-IA' THEN d.of_words WHEN 'M-AG' THEN d.of_graph END) AS by_chance,
        round(avg(f.trust_score), 3) AS mean_trust
    FROM failures AS f
    LEFT JOIN deciding AS d USING (failure_id)
    WHERE f.status = 'attributed' AND ($run::VARCHAR IS NULL OR starts_with(f.run_id, $run::VARCHAR))
    GROUP BY f.run_id, f.task, f.filter, f.label
)
SELECT
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    c.task,
    c.filter,
    c.label,
    c.failures,
    round(c.failures / c.explained, 4) AS share,
    round(c.by_chance, 4) AS by_chance,
    CASE WHEN s.sampled THEN wilson_low(c.failures, c.explained) END AS low,
    CASE WHEN s.sampled THEN wilson_high(c.failures, c.explained) END AS high,
    c.mean_trust
FROM counted AS c
JOIN sampled AS s USING (run_id, task, filter)
JOIN runs AS r USING (run_id)
ORDER BY r.started_at, r.run_id, c.task, c.filter, c.failures DESC, c.label
