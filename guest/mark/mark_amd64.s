#include "textflag.h"

// Each is NOPL disp32(AX), a no-op of seven bytes that no compiler writes with
// these displacements; the host's counter looks for them (vmtest/counter/counter.c).

// func Start()
TEXT ·Start(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x80; BYTE $0x01; BYTE $0x70; BYTE $0x70; BYTE $0x70
	RET

// func Stop()
TEXT ·Stop(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x80; BYTE $0x02; BYTE $0x70; BYTE $0x70; BYTE $0x70
	RET

// func Next()
TEXT ·Next(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x80; BYTE $0x03; BYTE $0x70; BYTE $0x70; BYTE $0x70
	RET

// func Pause()
TEXT ·Pause(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x80; BYTE $0x04; BYTE $0x70; BYTE $0x70; BYTE $0x70
	RET
