-- From which band users moved to which by the latest night, since the previous scored night and since a month before.
-- period: `night` or `month`
-- since: the earlier night
-- score_date: the latest night
-- from_band: band on the earlier night; `none`: not scored then
-- to_band: band on the latest night; `none`: not scored then
-- users: users who moved between these bands; rows with equal bands are users who stayed
-- share_percent: share of the users in from_band, 0 to 100
SELECT
  period,
  since,
  score_date,
  from_band,
  to_band,
  users,
  round(100 * users / sum(users) OVER (PARTITION BY period, from_band), 1) AS share_percent
FROM band_migration
WHERE score_date = (SELECT max(score_date) FROM band_migration)
