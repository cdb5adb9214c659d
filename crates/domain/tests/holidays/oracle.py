"""Makes `expected.txt`: the holidays that the PyPI packages `holidays` and `python-dateutil` know, an independent oracle.

    python3 -m venv V && V/bin/pip install holidays==0.109 && V/bin/python oracle.py > expected.txt

Prints a line per country and year, with days as MMDD; and a line `easter` per year. 28 years hold every combination of
leap year and weekday; `oracle.py 2020 2099` prints every year for which the product has rules.
"""
import sys

import holidays
from dateutil.easter import easter

COUNTRIES = "AT AU BE CA CH CZ DE DK ES FI FR GB IE IT LU NL NO PL PT SE US".split()

first, last = (int(year) for year in sys.argv[1:3] or (2020, 2047))
print(f"# by oracle.py, holidays {holidays.__version__}")
for code in COUNTRIES:
    for year in range(first, last + 1):
        # A day before New Year may be one for the year after.
        days = sorted(day for day in holidays.country_holidays(code, years=(year, year + 1)) if day.year == year)
        print(code, year, *(f"{day:%m%d}" for day in days))
for year in range(1990, 2100):
    print("easter", year, f"{easter(year):%m%d}")
