-- Which scores and inputs have drifted most from the training data, as of the latest night?
SELECT
  input,
  segment,
  round(psi, 4) AS psi,
  round(change, 4) AS change,
  threshold,
  breached
FROM psi_by_segment
WHERE score_date = (SELECT max(score_date) FROM psi_by_segment)
  AND psi IS NOT NULL
ORDER BY psi_by_segment.psi DESC, input, segment
LIMIT 10
