package kernel

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
)

// pullRounds is how many levels of options that depend on options are turned on.
const pullRounds = 8

// sanitizer are options that make another kernel of all of it, several times slower. Who only
// wishes for something does not get that.
var sanitizer = regexp.MustCompile(`^(?:K[ACM]SAN|UBSAN)(?:_|$)|^(?:PROVE_LOCKING|PROVE_RCU|LOCKDEP|KCOV|DEBUG_KMEMLEAK|DEBUG_PAGEALLOC)$`)

// pull turns on what stands in the way of the requests that have not landed and say so:
// the options that they depend on, and what those depend on in turn. It returns the
// requests with these, and what they came out as.
func (m *makeRun) pull(ctx context.Context, requests []request, config string) ([]request, string, error) {
	var symbols map[string]symbol
	for range pullRounds {
		values, open, err := unmet(requests, config)
		if err != nil {
			return nil, "", err
		}
		open = slices.DeleteFunc(open, func(r request) bool { return !r.pulls })
		if len(open) == 0 {
			break
		}
		if symbols == nil {
			if symbols, err = readKconfig(m.src); err != nil {
				return nil, "", err
			}
		}
		more := pulled(open, values, symbols)
		if len(more) == 0 {
			break
		}
		for _, r := range more {
			requests = append(without(requests, r.options), r)
		}
		if config, err = m.configure(ctx, "", requests); err != nil {
			return nil, "", err
		}
	}
	return requests, config, nil
}

// pulled are requests for what the open ones depend on and is off. What the tree does
// not let people set is left out: the open ones then stay open, and are explained.
func pulled(open []request, values map[string]string, symbols map[string]symbol) []request {
	var more []request
	wanted := map[string]bool{}
	for _, r := range open {
		for _, o := range r.options {
			wanted[o.name] = true
		}
	}
	add := func(r request, names []string) {
		for _, name := range names {
			if symbols[name].prompt && !wanted[name] && !(r.wish && sanitizer.MatchString(name)) {
				wanted[name] = true
				more = append(more, request{options: []option{{name, "y"}}, from: "what " + r.options[0].name + " depends on", pulls: true, wish: true})
			}
		}
	}
	for _, r := range open {
		for _, o := range r.options {
			if o.value == off {
				continue
			}
			// The config of a selftest names what it needs, and is careless of what can be a module.
			if o.value == module && symbols[o.name].isBool && r.wish {
				more = append(more, request{options: []option{{o.name, "y"}}, from: r.from, pulls: true, wish: true})
				continue
			}
			// An option that is declared several times needs one of its declarations.
			var needs []string
			for i, d := range symbols[o.name].depends {
				if found := lacking(d, values, symbols); i == 0 || len(found) < len(needs) {
					needs = found
				}
			}
			add(r, needs)
		}
	}
	return more
}

// lacking are the options whose being off makes a condition false. Of alternatives it
// takes the first that people can set; what a condition wants off is left to the
// explanation.
func lacking(condition string, values map[string]string, symbols map[string]symbol) []string {
	condition = unparenthesised(condition)
	if met(condition, values) {
		return nil
	}
	if alternatives := splitTop(condition, "||"); len(alternatives) > 1 {
		for _, a := range alternatives {
			names := lacking(a, values, symbols)
			if len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return !symbols[n].prompt }) {
				return names
			}
		}
		return nil
	}
	if parts := splitTop(condition, "&&"); len(parts) > 1 {
		var names []string
		for _, part := range parts {
			names = append(names, lacking(part, values, symbols)...)
		}
		return names
	}
	if symbolName.FindString(condition) == condition {
		return []string{condition}
	}
	return nil
}

// met says whether a condition holds. Comparisons are taken to.
func met(condition string, values map[string]string) bool {
	condition = unparenthesised(condition)
	if parts := splitTop(condition, "||"); len(parts) > 1 {
		return slices.ContainsFunc(parts, func(p string) bool { return met(p, values) })
	}
	if parts := splitTop(condition, "&&"); len(parts) > 1 {
		return !slices.ContainsFunc(parts, func(p string) bool { return !met(p, values) })
	}
	if strings.Contains(condition, "=") {
		return true
	}
	if rest, ok := strings.CutPrefix(condition, "!"); ok {
		return !met(strings.TrimSpace(rest), values)
	}
	return condition == "y" || cmp.Or(values[condition], off) != off
}

// splitTop splits a condition at an operator that is in no parentheses.
func splitTop(condition, operator string) []string {
	var parts []string
	depth, from := 0, 0
	for i := 0; i < len(condition); i++ {
		switch {
		case condition[i] == '(':
			depth++
		case condition[i] == ')':
			depth--
		case depth == 0 && strings.HasPrefix(condition[i:], operator):
			parts = append(parts, strings.TrimSpace(condition[from:i]))
			from = i + len(operator)
			i = from - 1
		}
	}
	return append(parts, strings.TrimSpace(condition[from:]))
}

// unparenthesised takes away the parentheses around a whole condition.
func unparenthesised(condition string) string {
	if !strings.HasPrefix(condition, "(") || !strings.HasSuffix(condition, ")") {
		return condition
	}
	depth := 0
	for i, c := range condition {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth == 0 && i < len(condition)-1 {
			return condition
		}
	}
	return strings.TrimSpace(condition[1 : len(condition)-1])
}
