-- The attribution database. One file holds many runs: models and checkpoints compare in one query.
--
-- Schema "main" holds the views: they are stable, documented column by column in docs/schema.md, and what people query.
-- Schema "base" holds the tables: they may change with the version. There a failure goes by an ascending integer, `key`,
-- instead of its 32-letter failure_id: rows of one failure lie together, so that reading one failure out of millions of
-- token rows touches one or two row groups; the views join the failure_id back on.
--
-- Versions, newest first (the number is VERSION in store.py, which writes it into base.schema_version):
--   2  accepted: generated responses that are right
--   1  the first

CREATE SCHEMA base;

-- What wrote the file, one row; `duckdb` is the version of DuckDB.
CREATE TABLE base.schema_version (version INTEGER NOT NULL, created_at TIMESTAMP NOT NULL, duckdb VARCHAR NOT NULL);

-- One model under one rule and objective in one evaluation setting. Times are UTC.
CREATE TABLE base.runs (
    run_id VARCHAR PRIMARY KEY,
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
    not_attributable VARCHAR NOT NULL,
    PRIMARY KEY (run_id, task, filter)
);

-- A document whose prediction the task's own metric scores as wrong, and what became of it here.
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
    status VARCHAR NOT NULL,  -- attributed, no pair, not sampled, error, right since
    reason VARCHAR NOT NULL,
    label VARCHAR,
    pattern VARCHAR,
    label_reason VARCHAR NOT NULL,
    trust VARCHAR,
    trust_score DOUBLE,
    trust_sentence VARCHAR,
    seconds DOUBLE
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
    correct BOOLEAN NOT NULL
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
    note VARCHAR NOT NULL
);

CREATE TABLE base.tokens (
    key BIGINT NOT NULL,
    position INTEGER NOT NULL,
    token_id INTEGER NOT NULL,
    token VARCHAR NOT NULL,
    segment VARCHAR,
    special BOOLEAN NOT NULL,
    relevance FLOAT,
    relevance_norm FLOAT
);

-- In layers and nodes, layer -1 is the embeddings and l the output of decoder block l (from 0).
CREATE TABLE base.layers (key BIGINT NOT NULL, layer INTEGER NOT NULL, position INTEGER NOT NULL, relevance FLOAT);
CREATE TABLE base.nodes (key BIGINT NOT NULL, layer INTEGER NOT NULL, position INTEGER NOT NULL, relevance FLOAT);

-- Edges of decoder block `layer`, from (layer - 1, source) to (layer, target).
CREATE TABLE base.edges (
    key BIGINT NOT NULL,
    layer INTEGER NOT NULL,
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

-- Generated responses that the task accepted: what the failures of a later run are compared with.
CREATE TABLE base.accepted (
    run_id VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    filter VARCHAR NOT NULL,
    doc_id BIGINT NOT NULL,
    doc_digest VARCHAR NOT NULL,
    response VARCHAR NOT NULL,
    PRIMARY KEY (run_id, task, filter, doc_id)
);

-- Flushes of other processes that were merged: merging a folder again adds nothing.
CREATE TABLE base.shards (flush VARCHAR PRIMARY KEY, merged_at TIMESTAMP NOT NULL);

CREATE VIEW runs AS SELECT * FROM base.runs;

CREATE VIEW tasks AS
SELECT
    t.run_id, t.task, t.metric, t.filter, t.documents, t.failures,
    coalesce(f.attributed, 0) AS attributed,
    coalesce(f.clean, 0) AS clean,
    t.score,
    coalesce(f.no_pair, 0) AS no_pair,
    coalesce(f.not_sampled, 0) AS not_sampled,
    coalesce(f.errors, 0) AS errors,
    t.not_attributable
FROM base.tasks AS t
LEFT JOIN (
    SELECT
        run_id, task, filter,
        count(*) FILTER (WHERE status = 'attributed') AS attributed,
        count(*) FILTER (WHERE status = 'attributed' AND c.clean) AS clean,
        count(*) FILTER (WHERE status = 'no pair') AS no_pair,
        count(*) FILTER (WHERE status = 'not sampled') AS not_sampled,
        count(*) FILTER (WHERE status = 'error') AS errors
    FROM base.failures LEFT JOIN base.contrasts AS c USING (key)
    GROUP BY run_id, task, filter
) AS f ON f.run_id = t.run_id AND f.task = t.task AND f.filter = t.filter;

CREATE VIEW accepted AS SELECT * FROM base.accepted;

CREATE VIEW failures AS SELECT * EXCLUDE (key) FROM base.failures;

CREATE VIEW continuations AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.continuations AS t JOIN base.failures AS f ON t.key = f.key;

CREATE VIEW contrasts AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.contrasts AS t JOIN base.failures AS f ON t.key = f.key;

CREATE VIEW tokens AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.tokens AS t JOIN base.failures AS f ON t.key = f.key;

CREATE VIEW layers AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.layers AS t JOIN base.failures AS f ON t.key = f.key;

CREATE VIEW nodes AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.nodes AS t JOIN base.failures AS f ON t.key = f.key;

CREATE VIEW edges AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.edges AS t JOIN base.failures AS f ON t.key = f.key;

CREATE VIEW heads AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.heads AS t JOIN base.failures AS f ON t.key = f.key;

CREATE VIEW neurons AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.neurons AS t JOIN base.failures AS f ON t.key = f.key;

CREATE VIEW graph_figures AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.graph_figures AS t JOIN base.failures AS f ON t.key = f.key;

CREATE VIEW checks AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.checks AS t JOIN base.failures AS f ON t.key = f.key;

CREATE VIEW segments AS
SELECT f.failure_id, t.* EXCLUDE (key) FROM base.segments AS t JOIN base.failures AS f ON t.key = f.key;

-- Tokens that are not special, ranked within their failure by absolute relevance (rank 1 the largest).
CREATE VIEW top_tokens AS
SELECT
    failure_id,
    row_number() OVER (PARTITION BY failure_id ORDER BY abs(relevance) DESC, position) AS rank,
    position, token_id, token, segment, relevance, relevance_norm
FROM tokens
WHERE NOT special;
