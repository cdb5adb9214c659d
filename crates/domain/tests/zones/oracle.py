"""What Python's own `zoneinfo` says of local times around every change of the clocks, from 2000 to 2037.

Reads names of zones, a line each; PYTHONTZPATH names the folder with their files. Prints, a line each:
    open ZONE DATE TIME AT      a window that opens at this local time and runs to the day's end opens at AT
    several ZONE A B C D AT END windows from A to B and from C to D every day: one opening begins at AT and ends at END
    day ZONE AT DATE NEXT       at AT it is DATE there, and the next day begins at NEXT
AT, END and NEXT are seconds since the epoch. A local time begins at the first moment whose clock shows it, or a later one where
it is left out.
"""
import sys
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

DAY = 86_400
FIRST = int(datetime(2000, 1, 1, tzinfo=timezone.utc).timestamp())
LAST = int(datetime(2038, 1, 1, tzinfo=timezone.utc).timestamp())
EPOCH = datetime(1970, 1, 1)


def offset(zone, at):
    return int(datetime.fromtimestamp(at, zone).utcoffset().total_seconds())


def segments(zone):
    """Spans of one offset, as (begin, offset); a change within a day of another one is found too, by hours."""
    found = [(FIRST - 5 * DAY, offset(zone, FIRST - 5 * DAY))]
    for hour in range(FIRST, LAST, DAY // 2):
        low, high = hour - DAY // 2, hour
        if offset(zone, low) == offset(zone, high):
            continue
        before = offset(zone, low)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(zone, middle) == before else (low, middle)
        found.append((high, offset(zone, high)))
    return found


def instant(spans, local):
    """The first moment whose clock shows `local` (seconds since the epoch as the clock shows them) or a later time."""
    for i, (begin, shift) in enumerate(spans):
        end = spans[i + 1][0] if i + 1 < len(spans) else LAST + 30 * DAY
        at = max(begin, local - shift)
        if at < end:
            return at


def wall(spans, at):
    return at + next(shift for begin, shift in reversed(spans) if begin <= at)


def next_day(spans, at):
    midnight = (wall(spans, at) // DAY + 1) * DAY
    for i, (begin, shift) in enumerate(spans):
        end = spans[i + 1][0] if i + 1 < len(spans) else LAST + 30 * DAY
        if end > at:
            found = max(begin, midnight - shift)
            if at < found < end:
                return found


def text(day):
    return date.fromordinal(EPOCH.toordinal() + day).isoformat()


def near(spans, i):
    return spans[max(0, i - 3):i + 4]


def opening(spans, day, second):
    opens, closes = instant(spans, day * DAY + second), instant(spans, (day + 1) * DAY)
    return (opens, closes) if opens < closes else None


def merged(spans, first_day, hours):
    """Openings of several hours a day, as [opens, closes]; those that overlap or touch are one."""
    found = []
    for day in range(first_day - 2, first_day + 4):
        for start, end in hours:
            closing_day = day + 1 if end < start else day
            opens, closes = instant(spans, day * DAY + start), instant(spans, closing_day * DAY + end)
            if opens < closes:
                found.append([opens, closes])
    merged = []
    for opens, closes in sorted(found):
        if merged and opens <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], closes)
        else:
            merged.append([opens, closes])
    return merged


def clock(second):
    return f"{second // 3600:02}:{second % 3600 // 60:02}"


for name in sys.stdin.read().split():
    spans = segments(ZoneInfo(name))
    for i in range(1, len(spans)):
        at, local = spans[i][0], near(spans, i)
        lowest = at + min(spans[i - 1][1], spans[i][1])
        for minutes in (-61, -30, 0, 15, 30, 45, 59, 60, 61, 90, 1439):
            day, second = divmod((lowest + minutes * 60) // 60 * 60, DAY)
            today = opening(local, day, second)
            if second == 0 or today is None:
                continue
            around = filter(None, (opening(local, day + n, second) for n in (-1, 0, 1)))
            if not any(opens <= today[0] - 1 < closes for opens, closes in around):
                print("open", name, text(day), clock(second), today[0])
        # One ends and the other begins close to the change, before it, in the gap or fold, and behind it.
        for shift, pause in ((-20, 0), (15, 10), (40, 20), (75, 0)):
            middle = lowest // 60 * 60 + shift * 60
            hours = [((middle - 2700) % DAY, middle % DAY), ((middle + pause * 60) % DAY, (middle + 3000) % DAY)]
            for opens, closes in merged(local, middle // DAY, hours):
                if closes > at - 7200 and opens < at + 7200:
                    print("several", name, *(clock(second) for pair in hours for second in pair), opens, closes)
        for moment in (at - DAY, at - 3601, at - 1, at, at + 1, at + 3599, at + DAY):
            print("day", name, moment, text(wall(local, moment) // DAY), next_day(local, moment))
