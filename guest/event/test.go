package event

// TestDir is the folder of a user's test in the guest, ResultsDir the one whose files
// come back to the host.
const (
	TestDir    = "/test"
	ResultsDir = "/results"
)

// TestKey is the boot option that names the test that the program exec runs: its
// specification is TestDir/NAME.json.
const TestKey = "patchproof.test"

// FromKey is the boot option that tells at which of a suite's tests that are run to begin, counted from 0:
// the kernel died in the one before.
const FromKey = "patchproof.from"

// OnlyKey is the boot option that names the tests of a suite that are run, separated by commas.
const OnlyKey = "patchproof.only"

// Running is what is printed on the console, and its name behind it, when a test of a suite
// begins: it tells what the kernel's complaints belong to.
const Running = "exec: running "

// RunnerGone is what is printed on the console, and the machine powered off, when the program
// exec has ended before its test: something has killed it.
const RunnerGone = "exec: what ran the test is gone"

// TestChecks are the checks that tell of a test from outside: no result of its own is called
// like one of them.
var TestChecks = []string{"exit", "exec", "program", "leaks", "console", "deadline", "reset"}

// HostTag is the name under which the guest is served the host's root, where a test sees
// that, and OverDir the folder of the initramfs whose files lie over it.
const (
	HostTag = "hostroot"
	OverDir = "/over"
)

// The addresses of a guest's network, which is QEMU's: its own, the host's, and where it
// asks for names.
const (
	NetGuest = "10.0.2.15"
	NetHost  = "10.0.2.2"
	NetDNS   = "10.0.2.3"
)

// ScratchDirs are the folders of the guest that a test finds empty, and may fill.
var ScratchDirs = []string{"/tmp", "/run", "/dev/shm", ResultsDir}

// BroughtDir has below it what comes along from those folders of the host, with its whole path: a
// test finds it where it was.
const BroughtDir = TestDir + "/.brought"

// TestPath is where a test's commands are looked for.
const TestPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/bbin"

// OutputFile is the name of the file that a test's output comes back in.
const OutputFile = "output.txt"

// LeftFile is the name of the file that says which of a test's files did not come back.
const LeftFile = "left-in-the-guest.txt"

// Test is a user's test, as the host hands it to the program exec.
type Test struct {
	// Argv is the command and its arguments, Dir where it starts.
	Argv []string `json:"argv"`
	Dir  string   `json:"dir"`
	// TimeoutS is how long it may run under KVM and with a plain kernel, in seconds.
	TimeoutS float64 `json:"timeout_s"`
	// HostRoot has the test see the host's root, with OverDir over it.
	HostRoot bool `json:"host_root,omitempty"`
	// Commands and Libraries are folders in which more of each are looked for, before all others.
	Commands  []string `json:"commands,omitempty"`
	Libraries []string `json:"libraries,omitempty"`
	// Unseen are commands that it names and that only the host has, in its PATH or whole.
	Unseen []string `json:"unseen,omitempty"`
	// UptimeS is how many seconds the machine must have been up when it begins.
	UptimeS float64 `json:"uptime_s,omitempty"`
	// SkipCode is an exit code that is a skip, beside kselftest's.
	SkipCode int `json:"skip_code,omitempty"`
	// Disk is a device on which a file system is made, with its program Mkfs, and mounted
	// on Dir. Helpers are programs that are found there.
	Disk    string   `json:"disk,omitempty"`
	Mkfs    []string `json:"mkfs,omitempty"`
	Helpers []string `json:"helpers,omitempty"`
	// Suite are tests that are run in its place, one after the other.
	Suite []Test `json:"suite,omitempty"`
	// Name is that of a test of a suite, and Missing why it cannot run, where it cannot.
	Name    string `json:"name,omitempty"`
	Missing string `json:"missing,omitempty"`
	// Broken says that what is missing is a failure.
	Broken bool `json:"broken,omitempty"`
	// Partly is why not all of its suite is there.
	Partly string `json:"partly,omitempty"`
}

// The limits of what a guest may send back in files, in bytes.
const (
	MaxFiles    = 16 << 20
	MaxFileName = 255
)

// FilePart is a piece of a file that a guest sends back, to be put behind the pieces
// that came before.
type FilePart struct {
	// Name is relative to ResultsDir.
	Name string `json:"name"`
	Data []byte `json:"data"`
}
