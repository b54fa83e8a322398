-- The latest score of each user who was scored in the 31 days up to and including the latest night.
-- user_id: the scored user
-- score_date: the night of the score
-- latest_night: whether score_date is the latest night; false: the user is no longer scored
-- probability: calibrated probability of default, 0 to 1
-- band: risk band, or `thin`
-- percentile: share of that night's users with a lower probability, 0 to 100; null for a thin file
-- thin_file: whether the history is too short for the network; all thin files get the same probability
-- why: the sentences of the reasons, the strongest first
-- reasons: the merchants that moved the score most, with contributions in log-odds
-- change: change since the score on the previous scored night; null if there is nothing to compare
-- model_version: version of the model that scored
SELECT
  user_id,
  score_date,
  score_date = (SELECT max(score_date) FROM scores) AS latest_night,
  probability,
  band,
  percentile,
  thin_file,
  concat_ws('; ', transform(reasons, reason -> reason.text)) AS why,
  reasons,
  change,
  model_version
FROM (
  SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY score_date DESC) AS age
  FROM scores
  WHERE score_date > (SELECT max(score_date) - INTERVAL 31 DAYS FROM scores)
)
WHERE age = 1
