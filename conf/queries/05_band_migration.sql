-- From which band to which did users go since the night before, those who stayed left out?
SELECT since, score_date, from_band, to_band, users, share_percent
FROM band_migration_latest
WHERE period = 'night'
  AND from_band != to_band
ORDER BY users DESC, from_band, to_band
LIMIT 10
