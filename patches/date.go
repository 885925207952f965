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
	offset      = regexp.MustCompile(`[+-]\d{1,2}:?\d{2}$`)
	clockOffset = regexp.MustCompile(`(\d:\d{2}(?::\d{2}(?:\.\d+)?)?) ?([+-])(\d{1,2}):?(\d{2})?\b`)
	epoch       = regexp.MustCompile(`^@?(\d{9,11})(?: ([+-]\d{4}))?$`)
)

// datesWithoutZone are tried after weekday, comments, commas and the zone were taken off.
var datesWithoutZone = []string{
	"2 Jan 2006 15:04:05", "2 Jan 2006 15:04", "2 Jan 06 15:04:05", "2-Jan-2006 15:04:05", "2-Jan-06 15:04:05",
	"Jan 2 15:04:05 2006", "Jan 2 15:04 2006", "Jan 2 2006 15:04:05", "Jan 2 2006 15:04", "Jan 2 2006 3:04 PM", "Jan 2 2006 3:04:05 PM",
	"2 Jan 2006 3:04:05 PM", "2 Jan 2006 3:04 PM",
	"2006-1-2 15:04:05", "2006-1-2 15:04", "2006-1-2T15:04:05", "2006-1-2T15:04", "2006/1/2 15:04:05", "2006/1/2 15:04", "20060102T150405",
	"1/2/2006 15:04:05", "1/2/2006 15:04", "2.1.2006 15:04:05", "2.1.2006 15:04",
	"2 Jan 2006", "Jan 2 2006", "2006-1-2", "2006/1/2",
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
	s = weekday.ReplaceAllString(s, " ")
	s = monthName.ReplaceAllStringFunc(s, func(m string) string {
		return strings.ToUpper(m[:1]) + strings.ToLower(m[1:3])
	})
	s = strings.ReplaceAll(s, ",", " ")
	zone := ""
	s = clockOffset.ReplaceAllStringFunc(s, func(m string) string {
		p := clockOffset.FindStringSubmatch(m)
		hours, minutes := p[3], p[4]
		if len(hours) == 1 {
			hours = "0" + hours
		}
		if minutes == "" {
			minutes = "00"
		}
		zone = p[2] + hours + minutes
		return p[1]
	})
	words := strings.Fields(s)
	kept := words[:0]
	for _, word := range words {
		upper := strings.ToUpper(word)
		switch {
		case zones[upper] != "":
			if zone == "" {
				zone = zones[upper]
			}
		case zone == "" && len(kept) > 0 && offset.MatchString(word) && len(word) <= 6:
			zone = strings.ReplaceAll(word, ":", "")
		case upper == "AM" || upper == "PM":
			kept = append(kept, upper)
		default:
			kept = append(kept, word)
		}
	}
	s = strings.Join(kept, " ")
	if zone == "" && strings.HasSuffix(s, "Z") {
		s = strings.TrimSuffix(s, "Z")
	}
	location := time.UTC
	if at, err := time.Parse("-0700", zone); err == nil {
		location = at.Location()
	}
	for _, layout := range datesWithoutZone {
		if t, err := time.ParseInLocation(layout, s, location); err == nil && t.Year() >= 1970 && t.Year() < 2100 {
			return t, true
		}
	}
	return time.Time{}, false
}
