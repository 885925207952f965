package patches

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// zones are the names of time zones that mails carry. Go takes an unknown name for UTC.
var zones = map[string]string{
	"UT": "+0000", "UTC": "+0000", "GMT": "+0000", "Z": "+0000", "WET": "+0000",
	"BST": "+0100", "CET": "+0100", "MET": "+0100", "WEST": "+0100",
	"CEST": "+0200", "MEST": "+0200", "MESZ": "+0200", "EET": "+0200", "SAST": "+0200",
	"EEST": "+0300", "MSK": "+0300", "MSD": "+0400", "IST": "+0530", "JST": "+0900", "KST": "+0900", "HKT": "+0800",
	"AEST": "+1000", "AEDT": "+1100", "NZST": "+1200", "NZDT": "+1300",
	"AST": "-0400", "ADT": "-0300", "EST": "-0500", "EDT": "-0400", "CST": "-0600", "CDT": "-0500",
	"MST": "-0700", "MDT": "-0600", "PST": "-0800", "PDT": "-0700", "HST": "-1000",
}

var (
	dateComment = regexp.MustCompile(`\([^()]*\)`)
	weekday     = regexp.MustCompile(`(?i)\b(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?\b,?`)
	monthName   = regexp.MustCompile(`(?i)\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b\.?`)
	ordinal     = regexp.MustCompile(`(?i)\b(\d{1,2})(?:st|nd|rd|th)\b`)
	// compact is ISO 8601 without signs, and isoT what stands between its date and its clock.
	compact = regexp.MustCompile(`\b(\d{8})T?(\d{2})(\d{2})(\d{2})`)
	isoT    = regexp.MustCompile(`(\d)T(\d)`)
	// clock may be anywhere in a date; an offset often stands right behind it.
	clock       = regexp.MustCompile(`(?i)\b(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d+)?)?(?: ?(AM|PM)\b)?`)
	clockOffset = regexp.MustCompile(`^ ?([+-])(\d{1,2}):?(\d{2})?\b`)
	offset      = regexp.MustCompile(`^([+-])(\d{2}):?(\d{2})$`)
	// zoneOffset is an offset from UTC that says so.
	zoneOffset = regexp.MustCompile(`^(?:UTC|GMT)([+-])(\d{1,2}):?(\d{2})?$`)
	epoch      = regexp.MustCompile(`^@?(\d{9,11})(?: ([+-]\d{4}))?$`)
)

// days are the forms of what is left of a date without weekday, comments, commas, clock and zone.
var days = []string{
	"2 Jan 2006", "2 Jan 06", "2-Jan-2006", "2-Jan-06", "Jan 2 2006",
	"2006-1-2", "2006/1/2", "20060102", "1/2/2006", "2.1.2006",
}

// parseDate reads a date in the forms that git am takes: of mails, ctime's, ISO 8601
// and seconds since 1970. One without a zone is taken as UTC.
func parseDate(s string) (time.Time, bool) {
	s = strings.Join(strings.Fields(dateComment.ReplaceAllString(s, " ")), " ")
	if m := epoch.FindStringSubmatch(s); m != nil {
		seconds, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			return time.Time{}, false
		}
		t := time.Unix(seconds, 0).UTC()
		if at, err := time.Parse("-0700", m[2]); err == nil {
			t = t.In(at.Location())
		}
		return t, true
	}
	s = isoT.ReplaceAllString(compact.ReplaceAllString(s, "$1 $2:$3:$4"), "$1 $2")
	s = weekday.ReplaceAllString(s, " ")
	s = monthName.ReplaceAllStringFunc(s, func(m string) string {
		return strings.ToUpper(m[:1]) + strings.ToLower(m[1:3])
	})
	s = ordinal.ReplaceAllString(s, "$1")
	var hour, minute, second int
	var zone *time.Location
	if at := clock.FindStringSubmatchIndex(s); at != nil {
		m := clock.FindStringSubmatch(s)
		hour, minute, second = number(m[1]), number(m[2]), number(m[3])
		switch half := strings.ToUpper(m[4]); {
		case half == "PM" && hour < 12:
			hour += 12
		case half == "AM" && hour == 12:
			hour = 0
		}
		before, behind := s[:at[0]], s[at[1]:]
		if m := clockOffset.FindStringSubmatch(behind); m != nil {
			zone, behind = east(m[1:]), behind[len(m[0]):]
		}
		s = before + " " + behind
	}
	// A leap second is the next minute's first for git, and 24:00 the next day's.
	if hour > 24 || minute > 59 || second > 60 {
		return time.Time{}, false
	}
	var kept []string
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" ,\"", r) }) {
		upper := strings.ToUpper(word)
		named, isZone := zones[upper]
		m := zoneOffset.FindStringSubmatch(upper)
		if m == nil && len(kept) > 0 {
			m = offset.FindStringSubmatch(word)
		}
		switch {
		case m != nil:
			zone = east(m[1:])
		case isZone && zone == nil:
			zone = east(offset.FindStringSubmatch(named)[1:])
		case !isZone:
			kept = append(kept, word)
		}
	}
	if zone == nil {
		zone = time.UTC
	}
	for _, layout := range days {
		if t, err := time.Parse(layout, strings.Join(kept, " ")); err == nil && t.Year() >= 1970 && t.Year() < 2100 {
			return time.Date(t.Year(), t.Month(), t.Day(), hour, minute, second, 0, zone), true
		}
	}
	return time.Time{}, false
}

// number is that of up to two digits, of which there may be none.
func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}

// east is a zone so many hours and minutes away from UTC.
func east(m []string) *time.Location {
	seconds := 3600*number(m[1]) + 60*number(m[2])
	if m[0] == "-" {
		seconds = -seconds
	}
	return time.FixedZone("", seconds)
}
