"""People's ratings of videos: studies, raters' pages, answers, statistics."""
