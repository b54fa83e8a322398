-- How each user's score moved between the previous scored night and the latest one.
-- user_id: the user
-- since: the previous scored night
-- score_date: the latest night
-- probability_before: probability on the previous scored night
-- probability: probability on the latest night
-- band_before: band on the previous scored night
-- band: band on the latest night
-- odds_factor: odds of default now, divided by the odds on the previous scored night
-- moved: absolute change of the log-odds; order by it to find who moved most
-- new_payments: number of payments since the previous scored night
-- odds_factor_by_new_payments: the part of odds_factor that the new payments explain
-- text: the change as a sentence
SELECT
  now.user_id,
  now.change.since AS since,
  now.score_date,
  now.change.probability AS probability_before,
  now.probability,
  before.band AS band_before,
  now.band,
  exp(now.change.contribution) AS odds_factor,
  abs(now.change.contribution) AS moved,
  now.change.new_payments AS new_payments,
  exp(now.change.by_new_payments) AS odds_factor_by_new_payments,
  now.change.text AS text
FROM scores AS now
LEFT JOIN scores AS before
  ON before.score_date = now.change.since
  AND before.user_id = now.user_id
WHERE now.score_date = (SELECT max(score_date) FROM scores)
  AND now.change IS NOT NULL
