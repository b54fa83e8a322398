-- How many users are in each risk band of the latest night, and what is their mean probability of default?
SELECT
  band,
  count(*) AS users,
  round(100 * count(*) / sum(count(*)) OVER (), 1) AS share_percent,
  round(avg(probability), 4) AS mean_probability,
  count_if(thin_file) AS thin_files
FROM scores
WHERE score_date = (SELECT max(score_date) FROM scores)
GROUP BY band
ORDER BY mean_probability
