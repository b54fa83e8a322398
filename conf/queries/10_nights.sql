-- How did the last nights go, how long did they take, and what stopped them?
SELECT
  as_of,
  outcome,
  concat(done, ' of ', steps) AS steps_done,
  round(seconds, 1) AS seconds,
  quarantined,
  message
FROM nightly_status
ORDER BY as_of DESC
LIMIT 10
