-- Figures of the attribution graphs, block by block: means over failures, by model and task
-- $task = null: only this task
SELECT
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    f.task,
    f.filter,
    g.layer,
    count(*) AS failures,
    round(avg(g.nodes), 1) AS nodes,
    round(avg(g.edges), 1) AS edges,
    round(avg(g.fan_in), 3) AS fan_in,
    round(avg(g.fan_out), 3) AS fan_out,
    round(avg(g.verticality), 4) AS verticality,
    round(avg(g.gini_nodes), 4) AS gini_nodes,
    round(avg(g.gini_edges), 4) AS gini_edges,
    round(avg(g.cover_90), 1) AS cover_90,
    round(avg(g.centre), 2) AS centre,
    round(avg(g.look_back), 2) AS look_back
FROM graph_figures AS g
JOIN failures AS f ON f.failure_id = g.failure_id
JOIN runs AS r ON r.run_id = f.run_id
WHERE f.status <> 'right since' AND ($task::VARCHAR IS NULL OR f.task = $task::VARCHAR)
GROUP BY r.run_id, r.model, r.rule, r.started_at, f.task, f.filter, g.layer
ORDER BY r.started_at, r.run_id, f.task, f.filter, g.layer
