-- Which merchants most often raise their customers' risk on the latest night?
SELECT
  reason.merchant_id,
  max(reason.merchant_name) AS merchant_name,
  count(*) AS users,
  round(avg(reason.contribution), 3) AS mean_log_odds
FROM scores
LATERAL VIEW explode(reasons) AS reason
WHERE score_date = (SELECT max(score_date) FROM scores)
  AND reason.direction = 'raises'
GROUP BY reason.merchant_id
ORDER BY users DESC, mean_log_odds DESC, reason.merchant_id
LIMIT 10
