-- How far scores and inputs have drifted from the model's training data, by night.
-- score_date: the night
-- input: `score`, or the input that was compared
-- psi: population stability index against training; null where there was nothing to compare
-- change: psi less that of the night before that was monitored
-- threshold: psi above it is a breach
-- breached: whether it is one
-- counted: values behind it
SELECT
  score_date,
  CASE WHEN measure = 'score_psi' THEN 'score' ELSE segment END AS input,
  value AS psi,
  value - lag(value) OVER (PARTITION BY measure, segment ORDER BY score_date) AS change,
  threshold,
  breached,
  counted
FROM score_monitoring
WHERE measure IN ('score_psi', 'input_psi')
