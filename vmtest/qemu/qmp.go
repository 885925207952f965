package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// qmp speaks to QEMU's monitor (QEMU's docs/interop/qmp-spec).
type qmp struct {
	conn net.Conn
	dec  *json.Decoder
	// why is QEMU's reason to end the guest, empty where it has told none.
	why string
}

// errMute means that QEMU has never spoken on its monitor.
var errMute = errors.New("QEMU's monitor did not greet")

// negotiate, the first command of all, is sent before QEMU can answer: it tells of events from then on.
const negotiate = `{"execute": "qmp_capabilities"}`

// qmpPatience is how long QEMU may take to answer.
const qmpPatience = 5 * time.Second

// openQMP takes the greeting and the answer to negotiate.
func openQMP(conn net.Conn) (*qmp, error) {
	m := &qmp{conn: conn, dec: json.NewDecoder(conn)}
	conn.SetDeadline(time.Now().Add(qmpPatience))
	var greeting struct{ QMP *json.RawMessage }
	if err := m.dec.Decode(&greeting); err != nil {
		return nil, fmt.Errorf("%w: %w", errMute, err)
	}
	if greeting.QMP == nil {
		return nil, errMute
	}
	_, err := m.answer("qmp_capabilities")
	return m, err
}

// execute runs a command and waits for its answer, whose content does not matter.
func (m *qmp) execute(command string, arguments map[string]any) error {
	_, err := m.ask(command, arguments)
	return err
}

// ask runs a command and returns its answer.
func (m *qmp) ask(command string, arguments map[string]any) (json.RawMessage, error) {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	m.conn.SetDeadline(time.Now().Add(qmpPatience))
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return nil, fmt.Errorf("QEMU's monitor, %s: %w", command, err)
	}
	return m.answer(command)
}

// answer is the next one; of events before it the reason of an end is kept.
func (m *qmp) answer(command string) (json.RawMessage, error) {
	for {
		var answer struct {
			Return *json.RawMessage
			Error  *struct{ Desc string }
			Event  string
			Data   struct{ Reason string }
		}
		if err := m.dec.Decode(&answer); err != nil {
			return nil, fmt.Errorf("QEMU's monitor, %s: %w", command, err)
		}
		switch {
		case answer.Error != nil:
			return nil, fmt.Errorf("QEMU's monitor refused %s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return *answer.Return, nil
		case answer.Event == "SHUTDOWN":
			m.why = answer.Data.Reason
		}
	}
}

// vcpuThreads are the host's threads that run the guest's processors, in order.
func (m *qmp) vcpuThreads() ([]int, error) {
	answer, err := m.ask("query-cpus-fast", nil)
	if err != nil {
		return nil, err
	}
	var cpus []struct {
		Thread int `json:"thread-id"`
	}
	if err := json.Unmarshal(answer, &cpus); err != nil {
		return nil, fmt.Errorf("QEMU's monitor, query-cpus-fast: %w", err)
	}
	var threads []int
	for _, c := range cpus {
		threads = append(threads, c.Thread)
	}
	return threads, nil
}
