-- Who are the riskiest users of the latest night with enough history to trust the score, and why?
SELECT
  user_id,
  round(probability, 4) AS probability,
  band,
  round(percentile, 1) AS percentile,
  why
FROM latest_scores
WHERE latest_night
  AND NOT thin_file
ORDER BY latest_scores.probability DESC, user_id
LIMIT 10
