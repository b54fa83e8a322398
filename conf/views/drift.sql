-- How far scores and inputs have drifted from the model's training data, by night.
-- score_date: the night
-- input: `score`, or the name of the input
-- psi: population stability index against training; null if there was nothing to compare
-- change: psi minus the psi of the previous monitored night
-- threshold: a psi above it is a breach
-- breached: whether psi is above the threshold
-- counted: number of values behind psi
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
