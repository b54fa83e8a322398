-- How good were the scores with a known outcome, night by night?
SELECT
  score_date,
  users,
  defaults,
  round(mean_probability, 4) AS mean_probability,
  round(default_rate, 4) AS default_rate,
  round(auc, 4) AS auc,
  round(ks, 4) AS ks,
  round(calibration, 4) AS calibration
FROM matured_performance
WHERE segment = 'all'
ORDER BY score_date DESC
LIMIT 10
