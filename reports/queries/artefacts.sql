-- Every charge: which change made a failure right, the proof, and doubtful gold answers
-- $run = null: only runs whose id starts so
SELECT
    r.model,
    f.task,
    f.doc_id,
    a.kind,
    a.verdict,
    a.change,
    a.proof,
    a.remedy,
    a.cost,
    f.failure_id
FROM artefacts AS a
JOIN failures AS f ON f.failure_id = a.failure_id
JOIN runs AS r ON r.run_id = f.run_id
WHERE $run::VARCHAR IS NULL OR starts_with(f.run_id, $run::VARCHAR)
ORDER BY r.started_at, r.run_id, f.task, a.kind, f.doc_id, f.failure_id
