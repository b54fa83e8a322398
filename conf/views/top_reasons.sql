-- How many users each merchant moved, in which direction and by what, by night. Filter on score_date.
-- score_date: the night
-- merchant_id: the merchant
-- merchant_name: its name; empty where the payments give none
-- field: what did most of it: `amount`, `time` or `kind`; null where nothing did
-- direction: `raises` or `lowers` the users' risk
-- users: users for whom the merchant is among the strongest reasons
-- mean_odds_factor: factor on the odds of default, the geometric mean over these users
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
