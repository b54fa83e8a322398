-- How each night's job went.
-- as_of: the night
-- outcome: `failed`, `started` (running, or killed), `finding` (finished, and a person must look) or `done`
-- steps: number of steps that started
-- done: number of these that finished
-- began_at: start of the first step, UTC
-- ended_at: end of the last step, UTC
-- seconds: total run time of the steps, without pauses between them and without earlier attempts
-- attempts: attempts of the step that was started most often
-- quarantined: rows newly refused and put into quarantine
-- message: error or finding, by step
-- details: each step's figures and table versions, as JSON, by step
-- code_version: version of the code that ran
SELECT
  as_of,
  CASE
    WHEN bool_or(outcome = 'failed') THEN 'failed'
    WHEN bool_or(outcome = 'started') THEN 'started'
    WHEN bool_or(outcome = 'finding') THEN 'finding'
    ELSE 'done'
  END AS outcome,
  count(*) AS steps,
  count_if(outcome IN ('done', 'finding')) AS done,
  min(started_at) AS began_at,
  max(ended_at) AS ended_at,
  sum(unix_millis(ended_at) - unix_millis(started_at)) / 1000 AS seconds,
  max(attempt) AS attempts,
  sum(quarantined) AS quarantined,
  map_from_entries(
    transform(
      array_sort(collect_list(struct(number, step, message)) FILTER (WHERE message IS NOT NULL)),
      row -> struct(row.step, row.message)
    )
  ) AS message,
  map_from_entries(
    transform(
      array_sort(collect_list(struct(number, step, details)) FILTER (WHERE details IS NOT NULL)),
      row -> struct(row.step, row.details)
    )
  ) AS details,
  max_by(code_version, started_at) AS code_version
FROM nightly_runs
GROUP BY as_of
