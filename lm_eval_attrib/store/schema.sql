-- The attribution database. One file holds many runs: models and checkpoints compare in one query.
--
-- Schema "main" holds the views: they are stable, documented column by column in docs/schema.md, and what people query.
-- Schema "base" holds the tables: they may change with the version. There a failure or explanation goes by an ascending
-- integer, `key`, instead of its 32-letter identifier: rows of one explanation lie together, so that reading one out of millions of
-- token rows touches one or two row groups; the views join the failure_id back on. An explanation is kept by its content:
-- the failures of several runs may have the same (`failures.explanation`), and each sees it as its own.
--
-- Versions, newest first (the number is VERSION in database.py, which writes it into base.schema_version):
--   4  edges that begin in a lower layer
--   3  explanations are kept by content and shared by runs; documents, choices, kind, decides, seconds by stage, comments;
--      the margin of choices, and the texts that make it up; steps with their trajectory and trials, hops;
--      changes tried on failures, charges, the ledger of a task
--   2  accepted: generated responses that are right
--   1  the first

CREATE SCHEMA base;

-- What wrote the file, one row; `duckdb` is the version of DuckDB.
CREATE TABLE base.schema_version (version INTEGER NOT NULL, created_at TIMESTAMP NOT NULL, duckdb VARCHAR NOT NULL);

-- One evaluation of one model, explained under one rule and objective. Times are UTC.
CREATE TABLE base.runs (
    run_id VARCHAR PRIMARY KEY,
    kind VARCHAR NOT NULL,  -- evaluation, samples, conversations, compare, replay
    started_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP,
    status VARCHAR NOT NULL,  -- running, complete, interrupted, failed
    model VARCHAR NOT NULL,
    model_args JSON NOT NULL,
    dtype VARCHAR NOT NULL,
    parameters BIGINT NOT NULL,
    rule VARCHAR NOT NULL,
    objective VARCHAR NOT NULL,
    versions JSON NOT NULL,
    settings JSON NOT NULL
);

-- What one task of a run came to, per filter.
CREATE TABLE base.tasks (
    run_id VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    filter VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    documents BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    score DOUBLE,
    decides BOOLEAN NOT NULL,  -- of the filters of a task one: the failures under it are explained
    not_attributable VARCHAR NOT NULL,
    PRIMARY KEY (run_id, task, filter)
);

-- Every evaluated document under each filter; the response where it was generated and is right under the filter that decides.
CREATE TABLE base.documents (
    run_id VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    filter VARCHAR NOT NULL,
    doc_id BIGINT NOT NULL,
    doc_digest VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    value DOUBLE,
    "right" BOOLEAN,
    response VARCHAR,
    PRIMARY KEY (run_id, task, filter, doc_id)
);

-- A document whose prediction the task's own metric scores as wrong. `status` and `reason` are those of its explanation, but
-- for `not sampled` and `right since`, which are its own.
CREATE TABLE base.failures (
    key BIGINT NOT NULL,
    failure_id VARCHAR PRIMARY KEY,
    run_id VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    filter VARCHAR NOT NULL,
    doc_id BIGINT NOT NULL,
    doc JSON NOT NULL,
    output_type VARCHAR NOT NULL,
    prompt VARCHAR NOT NULL,
    prediction VARCHAR NOT NULL,
    extracted VARCHAR,
    gold VARCHAR NOT NULL,
    golds VARCHAR[] NOT NULL,
    metric VARCHAR NOT NULL,
    value DOUBLE,
    status VARCHAR NOT NULL,  -- attributed, no pair, no answer, artefact, not sampled, error, right since
    reason VARCHAR NOT NULL,
    explanation_id VARCHAR,
    explanation BIGINT,  -- its key
    charge VARCHAR  -- the kind of artefact that is proved to have cost it
);

-- Changes tried on a failure, to see whether it is the model's at all, in their order.
CREATE TABLE base.tried (
    key BIGINT NOT NULL,
    place INTEGER NOT NULL,
    kind VARCHAR NOT NULL,
    change VARCHAR NOT NULL,
    verdict VARCHAR NOT NULL,  -- proved, not proved, suspect
    proof VARCHAR NOT NULL,
    remedy VARCHAR NOT NULL,
    forwards BIGINT NOT NULL,
    seconds DOUBLE NOT NULL,
    answered VARCHAR NOT NULL  -- a digest of the answer that it was tried on
);

-- What each kind of artefact cost a task, and all together.
CREATE TABLE base.ledger (
    run_id VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    filter VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    place INTEGER NOT NULL,
    kind VARCHAR NOT NULL,
    documents BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    concerned BIGINT NOT NULL,
    tried BIGINT NOT NULL,
    proved BIGINT NOT NULL,
    right_concerned BIGINT NOT NULL,
    right_tried BIGINT NOT NULL,
    broken BIGINT NOT NULL,
    suspects BIGINT NOT NULL,
    net DOUBLE NOT NULL,
    net_low DOUBLE NOT NULL,
    net_high DOUBLE NOT NULL,
    score_as_run DOUBLE NOT NULL,
    score_without DOUBLE NOT NULL,
    score_low DOUBLE NOT NULL,
    score_high DOUBLE NOT NULL,
    remedy VARCHAR NOT NULL,
    note VARCHAR NOT NULL,
    forwards BIGINT NOT NULL,
    seconds DOUBLE NOT NULL
);

-- What was found out about a failure, under a digest of everything that decides it.
CREATE TABLE base.explanations (
    key BIGINT NOT NULL,
    explanation_id VARCHAR PRIMARY KEY,
    status VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    label VARCHAR,
    pattern VARCHAR,
    label_reason VARCHAR NOT NULL,
    trust VARCHAR,
    trust_score DOUBLE,
    trust_sentence VARCHAR,
    seconds DOUBLE,
    seconds_pair DOUBLE,
    seconds_attribution DOUBLE,
    seconds_checks DOUBLE,
    version VARCHAR NOT NULL,
    budget JSON NOT NULL
);

-- The texts that the harness scored (one a choice) or the model generated (one), with their token ids.
CREATE TABLE base.continuations (
    key BIGINT NOT NULL,
    choice INTEGER NOT NULL,
    text VARCHAR NOT NULL,
    token_ids INTEGER[] NOT NULL,
    logprob DOUBLE,
    greedy BOOLEAN,
    cut INTEGER NOT NULL,
    chosen BOOLEAN NOT NULL,
    correct BOOLEAN NOT NULL,
    measured VARCHAR NOT NULL,
    prior DOUBLE,
    chosen_under VARCHAR[] NOT NULL
);

-- The pair of tokens explained, and what the model says about them at the explained position.
CREATE TABLE base.contrasts (
    key BIGINT NOT NULL,
    strategy VARCHAR NOT NULL,
    objective VARCHAR NOT NULL,
    position INTEGER NOT NULL,
    target_id INTEGER NOT NULL,
    target VARCHAR,
    contrast_id INTEGER NOT NULL,
    contrast VARCHAR,
    delta_logit DOUBLE,
    target_rank INTEGER,
    contrast_rank INTEGER,
    target_probability DOUBLE,
    contrast_probability DOUBLE,
    clean BOOLEAN,
    unclean VARCHAR,
    completeness_gap DOUBLE,
    prompt_tokens INTEGER NOT NULL,
    input_ids INTEGER[] NOT NULL,
    target_ids INTEGER[] NOT NULL,
    contrast_ids INTEGER[] NOT NULL,
    note VARCHAR NOT NULL,
    proved BOOLEAN NOT NULL,
    margin DOUBLE,
    unit DOUBLE NOT NULL,
    share DOUBLE,
    margin_reproduced DOUBLE,
    pooled BOOLEAN NOT NULL,
    terms_after INTEGER NOT NULL,
    telling BOOLEAN  -- clean, at least half of the margin, and (generated) proved
);

-- The texts whose log-probabilities make up a margin; the lists have a value a token (logprobs: a scored token).
CREATE TABLE base.margin_terms (
    key BIGINT NOT NULL,
    term INTEGER NOT NULL,
    side VARCHAR NOT NULL,
    choice INTEGER NOT NULL,
    detached BOOLEAN NOT NULL,
    scored INTEGER NOT NULL,
    weight DOUBLE NOT NULL,
    token_ids INTEGER[] NOT NULL,
    tokens VARCHAR[] NOT NULL,
    logprobs DOUBLE[] NOT NULL,
    relevance DOUBLE[] NOT NULL
);

CREATE TABLE base.tokens (
    key BIGINT NOT NULL,
    position INTEGER NOT NULL,
    token_id INTEGER NOT NULL,
    token VARCHAR NOT NULL,
    segment VARCHAR,
    special BOOLEAN NOT NULL,
    relevance FLOAT,
    relevance_norm FLOAT,
    chained FLOAT
);

-- In layers and nodes, layer -1 is the embeddings and l the output of decoder block l (from 0).
CREATE TABLE base.layers (key BIGINT NOT NULL, layer INTEGER NOT NULL, position INTEGER NOT NULL, relevance FLOAT);
CREATE TABLE base.nodes (key BIGINT NOT NULL, layer INTEGER NOT NULL, position INTEGER NOT NULL, relevance FLOAT);

-- Edges of decoder block `layer`, from (source_layer, source) to (layer, target).
CREATE TABLE base.edges (
    key BIGINT NOT NULL,
    layer INTEGER NOT NULL,
    source_layer INTEGER NOT NULL,
    source INTEGER NOT NULL,
    target INTEGER NOT NULL,
    weight FLOAT,
    ov FLOAT,
    qk FLOAT
);

CREATE TABLE base.heads (
    key BIGINT NOT NULL, layer INTEGER NOT NULL, head INTEGER NOT NULL, position INTEGER NOT NULL, relevance FLOAT
);
CREATE TABLE base.neurons (
    key BIGINT NOT NULL, layer INTEGER NOT NULL, neuron INTEGER NOT NULL, position INTEGER NOT NULL, relevance FLOAT
);

CREATE TABLE base.graph_figures (
    key BIGINT NOT NULL,
    layer INTEGER NOT NULL,
    nodes INTEGER NOT NULL,
    edges INTEGER NOT NULL,
    fan_in DOUBLE,
    fan_out DOUBLE,
    verticality DOUBLE,
    gini_nodes DOUBLE,
    gini_edges DOUBLE,
    cover_90 INTEGER NOT NULL,
    centre DOUBLE,
    look_back DOUBLE
);

CREATE TABLE base.checks (
    key BIGINT NOT NULL,
    "check" VARCHAR NOT NULL,
    amount DOUBLE,
    delta_before DOUBLE,
    delta_after DOUBLE,
    turned BOOLEAN NOT NULL,
    control DOUBLE,
    control_turned DOUBLE,
    draws INTEGER NOT NULL,
    turned_draws INTEGER NOT NULL,
    chance DOUBLE,
    detail VARCHAR NOT NULL
);

CREATE TABLE base.segments (
    key BIGINT NOT NULL, segment VARCHAR NOT NULL, tokens INTEGER NOT NULL, relevance DOUBLE, relevance_norm DOUBLE
);

-- Tokens of the model's own output that relevance was followed through, the first hop first.
CREATE TABLE base.hops (
    key BIGINT NOT NULL,
    hop INTEGER NOT NULL,
    position INTEGER NOT NULL,
    token_id INTEGER NOT NULL,
    token VARCHAR NOT NULL,
    contrast_id INTEGER,
    objective VARCHAR NOT NULL,
    relevance DOUBLE,
    delta DOUBLE,
    rank INTEGER NOT NULL,
    completeness_gap DOUBLE,
    top_position INTEGER NOT NULL,
    top_token VARCHAR NOT NULL,
    top_share DOUBLE,
    delta_before DOUBLE,
    delta_after DOUBLE,
    turned BOOLEAN,
    sources INTEGER[] NOT NULL,
    source_shares DOUBLE[] NOT NULL
);

-- The evidence for the step of a response that sent its answer wrong; its trajectory; what was tried there.
CREATE TABLE base.steps (
    key BIGINT NOT NULL,
    cue VARCHAR NOT NULL,
    fall DOUBLE,
    tried INTEGER NOT NULL,
    turned INTEGER NOT NULL,
    drawn INTEGER NOT NULL,
    right_with INTEGER NOT NULL,
    right_without INTEGER NOT NULL,
    p_value DOUBLE,
    forwards DOUBLE
);
CREATE TABLE base.trajectory (key BIGINT NOT NULL, place INTEGER NOT NULL, text VARCHAR NOT NULL, value DOUBLE);
CREATE TABLE base.trials (
    key BIGINT NOT NULL,
    trial INTEGER NOT NULL,
    place INTEGER NOT NULL,
    token_ids INTEGER[] NOT NULL,
    text VARCHAR NOT NULL,
    "right" BOOLEAN NOT NULL,
    alternative VARCHAR NOT NULL,
    replaced VARCHAR NOT NULL
);

-- Flushes of other processes that were merged: merging a folder again adds nothing.
CREATE TABLE base.shards (flush VARCHAR PRIMARY KEY, merged_at TIMESTAMP NOT NULL);

-- Wilson's 95 % interval of the share part / whole, to four digits: what a sample says of all.
CREATE MACRO wilson_low(part, whole) AS
    round((part + 1.920729 - 1.959964 * sqrt(part * (whole - part) / whole + 0.960365)) / (whole + 3.841459), 4);
CREATE MACRO wilson_high(part, whole) AS
    round((part + 1.920729 + 1.959964 * sqrt(part * (whole - part) / whole + 0.960365)) / (whole + 3.841459), 4);

-- Each failure's status and reason now: an explanation that runs share may have been found since.
CREATE VIEW base.standing AS
SELECT
    f.key, f.explanation, f.run_id, f.task, f.filter,
    CASE WHEN e.key IS NULL OR f.status IN ('not sampled', 'right since', 'artefact') THEN f.status ELSE e.status END AS status,
    CASE WHEN e.key IS NULL OR f.status IN ('not sampled', 'right since', 'artefact') THEN f.reason ELSE e.reason END AS reason
FROM base.failures AS f LEFT JOIN base.explanations AS e ON e.key = f.explanation;

CREATE VIEW runs AS
SELECT
    run_id, started_at, finished_at, status, model, model_args, dtype, parameters, rule, objective, versions, settings, kind
FROM base.runs;

CREATE VIEW tasks AS
SELECT
    t.run_id, t.task, t.metric, t.filter, t.documents, t.failures,
    coalesce(f.attributed, 0) AS attributed,
    coalesce(f.clean, 0) AS clean,
    t.score,
    coalesce(f.no_pair, 0) AS no_pair,
    coalesce(f.no_answer, 0) AS no_answer,
    coalesce(f.not_sampled, 0) AS not_sampled,
    coalesce(f.errors, 0) AS errors,
    t.not_attributable,
    t.decides,
    coalesce(f.artefacts, 0) AS artefacts
FROM base.tasks AS t
LEFT JOIN (
    SELECT
        f.run_id, f.task, f.filter,
        count(*) FILTER (WHERE status = 'attributed') AS attributed,
        count(*) FILTER (WHERE status = 'attributed' AND c.clean) AS clean,
        count(*) FILTER (WHERE status = 'no pair') AS no_pair,
        count(*) FILTER (WHERE status = 'no answer') AS no_answer,
        count(*) FILTER (WHERE status = 'artefact') AS artefacts,
        count(*) FILTER (WHERE status = 'not sampled') AS not_sampled,
        count(*) FILTER (WHERE status = 'error') AS errors
    FROM base.standing AS f LEFT JOIN base.contrasts AS c ON c.key = f.explanation
    GROUP BY f.run_id, f.task, f.filter
) AS f ON f.run_id = t.run_id AND f.task = t.task AND f.filter = t.filter;

CREATE VIEW documents AS
SELECT run_id, task, doc_id, filter, metric, value, "right", doc_digest FROM base.documents;

CREATE VIEW accepted AS
SELECT run_id, task, filter, doc_id, doc_digest, response FROM base.documents WHERE response IS NOT NULL;

CREATE VIEW failures AS
SELECT
    f.failure_id, f.run_id, f.task, f.filter, f.doc_id, f.doc, f.output_type, f.prompt,
    -- What the model would have said in place of a scored continuation is known from its explanation only.
    CASE WHEN f.prediction = '' AND f.output_type = 'loglikelihood' THEN coalesce(c.target, '') ELSE f.prediction END AS prediction,
    f.extracted, f.gold,
    f.golds, f.metric, f.value,
    CASE WHEN e.key IS NULL OR f.status IN ('not sampled', 'right since', 'artefact') THEN f.status ELSE e.status END AS status,
    CASE WHEN e.key IS NULL OR f.status IN ('not sampled', 'right since', 'artefact') THEN f.reason ELSE e.reason END AS reason,
    CASE WHEN f.status = 'artefact' THEN 'artefact:' || f.charge ELSE e.label END AS label,
    e.pattern, coalesce(e.label_reason, '') AS label_reason, e.trust, e.trust_score, e.trust_sentence,
    e.seconds, e.seconds_pair, e.seconds_attribution, e.seconds_checks, e.version, f.explanation_id, f.charge
FROM base.failures AS f LEFT JOIN base.explanations AS e ON e.key = f.explanation LEFT JOIN base.contrasts AS c ON c.key = f.explanation;

CREATE VIEW explanations AS SELECT * EXCLUDE (key) FROM base.explanations;

CREATE VIEW continuations AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.continuations AS t JOIN base.failures AS f ON t.key = f.key;

-- What was proved to have cost a failure that is not the model, and doubtful gold answers.
CREATE VIEW artefacts AS
SELECT f.failure_id, t.kind, t.change, t.verdict, t.proof, t.remedy, t.forwards AS cost, t.seconds
FROM base.tried AS t JOIN base.failures AS f ON t.key = f.key
WHERE t.verdict IN ('proved', 'suspect');

CREATE VIEW tried AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.tried AS t JOIN base.failures AS f ON t.key = f.key;

CREATE VIEW ledger AS SELECT * EXCLUDE (place) FROM base.ledger;

-- Choices as the metrics of lm_eval measure them.
CREATE VIEW choices AS
SELECT
    f.failure_id, t.choice, t.text, t.logprob,
    length(t.measured) AS characters, strlen(t.measured) AS bytes, len(t.token_ids) AS tokens,
    t.logprob / greatest(length(t.measured), 1) AS per_character,
    t.logprob / greatest(strlen(t.measured), 1) AS per_byte,
    t.logprob / greatest(len(t.token_ids), 1) AS per_token,
    t.prior, t.chosen, t.correct AS gold, t.chosen_under,
    CASE WHEN t.correct THEN t.chosen_under ELSE [] END AS right_under
FROM base.continuations AS t JOIN base.failures AS f ON t.key = f.key
WHERE f.output_type = 'multiple_choice';

CREATE VIEW contrasts AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.contrasts AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW margin_terms AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.margin_terms AS t JOIN base.failures AS f ON t.key = f.explanation;

-- logprobs belong to the last `scored` tokens; those before are the text's own context, which nothing scores.
CREATE VIEW margin_tokens AS
SELECT
    failure_id, term, side, choice, (place - 1)::INTEGER AS position, token_ids[place] AS token_id, tokens[place] AS token,
    logprobs[nullif(greatest(place - unscored, 0), 0)] AS logprob,
    weight * logprobs[nullif(greatest(place - unscored, 0), 0)] AS carried,
    relevance[place] AS relevance
FROM (
    SELECT f.failure_id, t.*, len(t.token_ids) - t.scored AS unscored, unnest(range(1, len(t.token_ids) + 1)) AS place
    FROM base.margin_terms AS t JOIN base.failures AS f ON t.key = f.explanation
);

CREATE VIEW tokens AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.tokens AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW layers AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.layers AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW nodes AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.nodes AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW edges AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.edges AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW heads AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.heads AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW neurons AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.neurons AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW graph_figures AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.graph_figures AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW checks AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.checks AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW segments AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.segments AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW hops AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.hops AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW steps AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.steps AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW trajectory AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.trajectory AS t JOIN base.failures AS f ON t.key = f.explanation;

CREATE VIEW trials AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.trials AS t JOIN base.failures AS f ON t.key = f.explanation;

-- Tokens that are not special, ranked within their failure by absolute relevance (rank 1 the largest).
CREATE VIEW top_tokens AS
SELECT
    failure_id,
    row_number() OVER (PARTITION BY failure_id ORDER BY abs(relevance) DESC, position) AS rank,
    position, token_id, token, segment, relevance, relevance_norm
FROM tokens
WHERE NOT special;
