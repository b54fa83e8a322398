-- How each user's score moved until the latest night since the night before.
-- user_id: the user
-- since: the night scored before
-- score_date: the latest night
-- probability_before: probability then
-- probability: probability now
-- band_before: band then
-- band: band now
-- odds_factor: odds of default now over those then
-- moved: by how much the log-odds moved, up or down: order by it for who moved most
-- new_payments: payments since then
-- odds_factor_by_new_payments: the part of odds_factor that goes when the new payments are left out
-- text: the same as a sentence
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
