-- How many users moved from which band to which since the previous scored night, without those who stayed?
SELECT since, score_date, from_band, to_band, users, share_percent
FROM band_migration_latest
WHERE period = 'night'
  AND from_band != to_band
ORDER BY users DESC, from_band, to_band
LIMIT 10
