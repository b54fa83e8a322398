-- Which merchants most often raise their customers' risk on the latest night, and by how much?
SELECT
  merchant_id,
  max(merchant_name) AS merchant_name,
  sum(users) AS users,
  round(exp(sum(users * ln(mean_odds_factor)) / sum(users)), 2) AS mean_odds_factor
FROM top_reasons
WHERE score_date = (SELECT max(score_date) FROM scores)
  AND direction = 'raises'
GROUP BY merchant_id
ORDER BY users DESC, mean_odds_factor DESC, merchant_id
LIMIT 10
