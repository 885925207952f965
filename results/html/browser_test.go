package html

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"patchproof/results"
)

// shots is where screenshots go when somebody wants to look at them.
var shots = os.Getenv("SCREENSHOTS")

// browser is a tab with the report of a run in it, and what it complained of.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	trouble  []string
	requests []string
}

// open shows the report of a run in a new headless Chromium.
func open(t *testing.T, run *results.Run) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a browser")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("no chromium; make deps installs it, or: apt-get install chromium")
	}
	path, _ := write(t, run)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	ctx, stop = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(stop)
	b := &browser{t: t, ctx: ctx}
	err = chromedp.Listen(ctx, func(ev any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch ev := ev.(type) {
		case *log.EventEntryAdded:
			b.trouble = append(b.trouble, ev.Entry.Text)
		case *runtime.EventExceptionThrown:
			b.trouble = append(b.trouble, ev.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			b.trouble = append(b.trouble, fmt.Sprintf("console.%s", ev.Type))
		case *network.EventRequestWillBeSent:
			b.requests = append(b.requests, ev.Request.URL)
		case *page.EventJavascriptDialogOpening:
			b.trouble = append(b.trouble, "dialog: "+ev.Message)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	address := url.URL{Scheme: "file", Path: path}
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, struct{}{})
	b.run(chromedp.Navigate(address.String()))
	return b
}

func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// get runs an action that returns something.
func get[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	result, err := chromedp.Run(b.ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// eval runs JavaScript in the page.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	return get(b, chromedp.Evaluate[T](expression))
}

func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) do(expression string) {
	b.t.Helper()
	b.run(chromedp.Evaluate[chromedp.Void](expression))
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.run(chromedp.Click(chromedp.CSS(selector)))
}

// quiet checks that the page asked for nothing but itself and had no complaint.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.trouble) > 0 {
		b.t.Errorf("the browser complained: %q", b.trouble)
	}
	if len(b.requests) != 1 {
		b.t.Errorf("the page made requests: %q; want itself alone", b.requests)
	}
}

func (b *browser) media(scheme string, width int64) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	b.run(chromedp.EmulateViewport(width, 900))
}

func (b *browser) shot(name string) {
	b.t.Helper()
	if shots == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(shots, name+".png"), get(b, chromedp.FullScreenshot(100)), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func TestMatrixSortsAndFilters(t *testing.T) {
	b := open(t, fixture(t))
	const programs = `[...document.querySelectorAll("#matrix-table tbody tr:not([hidden]) th")].map(e => e.textContent).join(" ")`
	const cells = `[...document.querySelectorAll("details.cell:not([hidden])")].length`
	sorted := eval[string](b, programs)
	b.click(`#matrix-table thead th:nth-child(1) button`)
	if got := strings.Fields(eval[string](b, programs)); strings.Join(reversed(got), " ") != sorted {
		t.Errorf("after a click on Program: %v; want the reverse of %s", got, sorted)
	}
	b.click(`#matrix-table thead th:nth-child(3) button`)
	if got := eval[string](b, programs); !strings.HasPrefix(got, "race-hotplug-shrink ") {
		t.Errorf("by verdict on posted: %s; want the crash first", got)
	}
	if got := eval[string](b, `document.querySelectorAll("#matrix-table th[aria-sort]").length + document.querySelector("#matrix-table th:nth-child(3)").ariaSort`); got != "1descending" {
		t.Errorf("aria-sort says %q; want one column, descending", got)
	}
	all := eval[int](b, cells)
	b.run(chromedp.SendKeys(chromedp.CSS("#filter-text"), "SHRINK"))
	if got := eval[int](b, cells); got == 0 || got >= all {
		t.Errorf("the text filter leaves %d of %d cells", got, all)
	}
	b.do(`document.querySelector("#filter-text").value = ""`)
	b.do(`document.querySelector("#filter-verdict").value = "crash"`)
	b.do(`document.querySelector("#filter-verdict").dispatchEvent(new Event("input"))`)
	if got := eval[int](b, cells); got != 1 {
		t.Errorf("the filter for crashes leaves %d cells; want 1", got)
	}
	if got, want := eval[string](b, `document.querySelector("#filter-count").textContent`), fmt.Sprintf("1 of %d cells", all); got != want {
		t.Errorf("the filter says %q; want %q", got, want)
	}
	b.click("#filter-unexpected")
	if got := eval[int](b, cells); got != 0 {
		t.Errorf("only unexpected crashes: %d cells; want none", got)
	}
	b.quiet()
}

func reversed(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[len(words)-1-i] = w
	}
	return out
}

func TestCellOpensAndConsoleIsSearched(t *testing.T) {
	b := open(t, fixture(t))
	const crash = `[...document.querySelectorAll("details.cell")].find(e => e.dataset.verdicts === "crash")`
	if eval[bool](b, crash+`.open`) {
		t.Error("a cell that is as declared is open at first")
	}
	b.do(`document.querySelector("#matrix-table a[href='#"+` + crash + `.id+"']").click()`)
	get(b, chromedp.Poll[bool](crash+`.open`))
	b.do(crash + `.querySelector("details.console").open = true`)
	b.do(crash + `.querySelector(".search").id = "search"`)
	b.run(chromedp.SendKeys(chromedp.CSS("#search"), "Call Trace"))
	if got := eval[string](b, crash+`.querySelector("output").textContent`); !strings.Contains(got, "match") || strings.HasPrefix(got, "0") {
		t.Errorf("searching the console says %q; want matches", got)
	}
	if n := eval[int](b, `CSS.highlights.get("hits").size`); n == 0 {
		t.Error("no match is painted")
	}
	if got := eval[string](b, crash+`.querySelector("mark + .where").textContent`); !strings.Contains(got, "fs/io_uring.c") || !strings.Contains(got, "patch 4/6 ") {
		t.Errorf("beside the splat stands %q; want a place and a patch", got)
	}
	b.shot("cell")
	b.click("#open-all")
	if n := eval[int](b, `document.querySelectorAll("details.cell:not([open])").length`); n != 0 {
		t.Errorf("%d cells stay closed after Open all", n)
	}
	b.quiet()
}

// contrast computes the ratio of WCAG 2 for every text that is shown, and names
// those below 4.5.
const contrast = `(() => {
  const parse = (c) => { const n = (c.match(/[\d.]+/g) || []).map(Number); return n.length < 4 ? [...n.slice(0, 3), 1] : n; };
  const luminance = ([r, g, b]) => { const f = (v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }; return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const back = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c; } return [255, 255, 255, 1]; };
  const bad = {}, walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || e.closest("script, style, title, desc") || !e.checkVisibility()) continue;
    seen++;
    const style = getComputedStyle(e), ink = parse(e.closest("svg") ? style.fill : style.color);
    const [a, b] = [luminance(ink), luminance(back(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) bad[e.tagName + "." + (e.className.baseVal ?? e.className) + " " + ratio.toFixed(2)] = walk.currentNode.data.trim().slice(0, 40);
  }
  if (seen < 100) bad["texts looked at"] = String(seen);
  return JSON.stringify(bad);
})()`

func TestLooks(t *testing.T) {
	b := open(t, fixture(t))
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 390} {
			b.media(scheme, width)
			b.shot(fmt.Sprintf("%d-%s", width, scheme))
			if over := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
				t.Errorf("at %d pixels the page is %d pixels too wide", width, over)
			}
		}
	}
	b.do(`document.querySelectorAll("details").forEach(e => { e.open = true })`)
	for _, scheme := range []string{"light", "dark"} {
		b.media(scheme, 390)
		if over := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
			t.Errorf("with everything open, at 390 pixels the page is %d pixels too wide", over)
		}
		b.shot("open-390-" + scheme)
		b.media(scheme, 1280)
		b.shot("open-1280-" + scheme)
		if bad := eval[string](b, contrast); bad != "{}" {
			t.Errorf("%s: contrast below 4.5: %s", scheme, bad)
		}
	}
	b.quiet()
}

// structure looks for what a screen reader goes by, and names what is missing.
const structure = `(() => {
  const wrong = [], all = (s) => [...document.querySelectorAll(s)];
  for (const s of ["header", "main", "nav[aria-label]", "footer", "[role=search]", "h1", "a.skip"])
    if (all(s).length !== 1) wrong.push(all(s).length + " " + s);
  if (!document.documentElement.lang || !document.title) wrong.push("no lang or title");
  let level = 0;
  for (const h of all("h1, h2, h3, h4")) { if (+h.tagName[1] > level + 1) wrong.push("heading skips a level: " + h.textContent); level = +h.tagName[1]; }
  for (const t of all("table")) if (!t.caption || t.querySelector("th:not([scope])")) wrong.push("table without caption or scope");
  for (const s of all("svg:not([aria-hidden])"))
    if (s.getAttribute("role") !== "img" || !s.getAttribute("aria-labelledby").split(" ").every((id) => document.getElementById(id)?.textContent)) wrong.push("picture without a name");
  for (const c of all("input, select")) if (!c.labels?.length) wrong.push("control without a label: " + c.id);
  for (const r of all("[role=region]")) if (!r.getAttribute("aria-label")) wrong.push("region without a name");
  const ids = all("[id]").map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push("id twice: " + id);
  for (const a of all("a[href^='#']")) if (!document.getElementById(a.hash.slice(1))) wrong.push("link to nothing: " + a.hash);
  for (const f of all("figure")) if (!f.querySelector("figcaption") || !f.querySelector("details table tbody tr")) wrong.push("picture without its numbers");
  return JSON.stringify(wrong);
})()`

func TestStructure(t *testing.T) {
	b := open(t, fixture(t))
	var wrong []string
	if err := json.Unmarshal([]byte(eval[string](b, structure)), &wrong); err != nil || len(wrong) > 0 {
		t.Errorf("%q, %v", wrong, err)
	}
	// The keyboard comes first to the link past the header, and that is seen.
	b.run(chromedp.KeyEvent("\t"))
	if got := eval[string](b, `document.activeElement.className + " " + (document.activeElement.getBoundingClientRect().left >= 0)`); got != "skip true" {
		t.Errorf("the first tab stop is %q; want the skip link, in view", got)
	}
	b.quiet()
}

func TestHostileRunIsInert(t *testing.T) {
	b := open(t, hostile(t))
	b.media("light", 390)
	b.shot("hostile")
	if title := eval[string](b, `document.title`); title == "owned" {
		t.Error("the guest's script ran")
	}
	if n := eval[int](b, `document.querySelectorAll("img, iframe, script:not(:last-of-type), body > script + *").length`); n != 0 {
		t.Errorf("the guest's text made %d elements", n)
	}
	b.do(`document.querySelectorAll("details").forEach(e => { e.open = true })`)
	if over := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		t.Errorf("the page is %d pixels too wide", over)
	}
	b.quiet()
}

func TestPrints(t *testing.T) {
	b := open(t, fixture(t))
	pdf := get(b, chromedp.PrintToPDF())
	if !strings.HasPrefix(string(pdf), "%PDF") {
		t.Error("printing made no PDF")
	}
	if shots != "" {
		if err := os.WriteFile(filepath.Join(shots, "print.pdf"), pdf, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.quiet()
}
