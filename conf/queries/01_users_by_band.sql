-- How many users are in each risk band of the latest night, and what is their mean probability of default?
SELECT
  band,
  count(*) AS users,
  round(100 * count(*) / sum(count(*)) OVER (), 1) AS share_percent,
  round(avg(probability), 4) AS mean_probability
FROM latest_scores
WHERE latest_night
GROUP BY band
ORDER BY band = 'thin', mean_probability
