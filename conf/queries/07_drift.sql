-- Which scores and inputs have drifted most from the training data, as of the latest night?
SELECT
  input,
  round(psi, 4) AS psi,
  round(change, 4) AS change,
  threshold,
  breached
FROM drift
WHERE score_date = (SELECT max(score_date) FROM drift)
  AND psi IS NOT NULL
ORDER BY drift.psi DESC, input
LIMIT 10
