-- How many users' scores each merchant moved, in which direction and by which field, by night. Filter on score_date.
-- score_date: the night
-- merchant_id: the merchant
-- merchant_name: its name; empty if the payments have none
-- field: the field that explains most: `amount`, `time` or `kind`; null if none does
-- direction: `raises` or `lowers` the users' risk
-- users: users for whom the merchant is among the strongest reasons
-- mean_odds_factor: factor on the odds of default, geometric mean over these users
SELECT
  score_date,
  reason.merchant_id AS merchant_id,
  max(reason.merchant_name) AS merchant_name,
  reason.field AS field,
  reason.direction AS direction,
  count(*) AS users,
  exp(avg(reason.contribution)) AS mean_odds_factor
FROM scores
LATERAL VIEW explode(reasons) AS reason
GROUP BY score_date, reason.merchant_id, reason.field, reason.direction
