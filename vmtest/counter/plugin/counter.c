// A QEMU plugin that counts the instructions a guest executes between the marks
// of guest/mark, in all and for each address.
//
// Output, one record per line: "window <CPU> <instructions>" for each window of a
// CPU, then, at the end of a workload, "at <address, hex> <instructions>" for each
// address, the sum over its windows, and "next".
//
// With one CPU every instruction is counted where it stands. With several, which
// run in threads of their own, each counts the translation blocks that it enters, by
// their length and for their first address: a block that an exception cuts short
// counts whole.
//
// QEMU's header is in no package of Debian's: these are the declarations of its
// plugin interface that are used here, by the macro API of version 1 (QEMU 4.2 to
// 8.2), or of version 2 (QEMU 9.0) and later, whose number QEMU reports: from version
// 3 on an instruction's bytes are copied.

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct {
	const char *target_name;
	struct {
		int min;
		int cur;
	} version;
	bool system_emulation;
	union {
		struct {
			int smp_vcpus;
			int max_vcpus;
		} system;
	};
} qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { QEMU_PLUGIN_CB_NO_REGS };
enum { QEMU_PLUGIN_INLINE_ADD_U64 };

void qemu_plugin_reset(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t));
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned int, void *), int flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
#if API == 1
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *ptr, uint64_t imm);
#else
struct qemu_plugin_scoreboard;
typedef struct {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
} qemu_plugin_u64;
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t element_size);
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *score, unsigned int vcpu_index);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *insn, int op, qemu_plugin_u64 entry, uint64_t imm);
#endif
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*cb)(unsigned int, void *), int flags, void *data);

__attribute__((visibility("default"))) int qemu_plugin_version = API;

// reported is the version of QEMU's plugin interface.
static int reported;

// insn_data is where an instruction's bytes are, and from version 3 on copies them.
static union {
	const void *(*where)(const struct qemu_plugin_insn *insn);
	size_t (*copy)(const struct qemu_plugin_insn *insn, void *dest, size_t len);
} insn_data = { qemu_plugin_insn_data };

// CONFIG_NR_CPUS of the kernels
#define CPUS 8

struct site {
	uint64_t addr;
	size_t number;
	uint64_t inside;	// in the windows of this workload
	struct {
		uint64_t count;	// always
		uint64_t before;	// count when counting began or went on
	} cpu[CPUS];
};

// Sites are in blocks that never move, because translated code points at them,
// and are found through an open hash table of their addresses.
#define BLOCK 4096
static struct site **blocks;
static size_t nr_sites;
static struct site **table;
static size_t table_size = 1 << 16;

static struct cpu {
	uint64_t total[2], before[2];	// of the program and of the kernel
	uint64_t window;	// up to the last start or pause
	enum { OUTSIDE, INSIDE, PAUSED } state;
	char alone[64];	// in a cache line
} cpus[CPUS];
static int nr_cpus;
static FILE *out;
// lock guards the sites but for their counts, and the output.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *must(void *p)
{
	if (!p) {
		fprintf(stderr, "counter: out of memory\n");
		exit(1);
	}
	return p;
}

static struct site **slot(uint64_t addr)
{
	size_t i = (addr * 0x9e3779b97f4a7c15u) >> 20 & (table_size - 1);

	while (table[i] && table[i]->addr != addr)
		i = (i + 1) & (table_size - 1);
	return &table[i];
}

static struct site *nth(size_t i)
{
	return &blocks[i / BLOCK][i % BLOCK];
}

static void grow(void)
{
	table_size *= 2;
	free(table);
	table = must(calloc(table_size, sizeof(*table)));
	for (size_t i = 0; i < nr_sites; i++)
		*slot(nth(i)->addr) = nth(i);
}

#if API == 1
// QEMU adds where it is told to.
static void board(size_t block) {}
static void collect(void) {}

static void inlined(struct qemu_plugin_insn *insn, struct site *site, int kernel)
{
	qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, &site->cpu[0].count, 1);
	qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, &cpus[0].total[kernel], 1);
}
#else
// QEMU adds on boards of its own, one for each block of sites and one for the totals.
static struct qemu_plugin_scoreboard **boards, *totals;

static void board(size_t block)
{
	boards = must(realloc(boards, (block + 1) * sizeof(*boards)));
	boards[block] = qemu_plugin_scoreboard_new(BLOCK * sizeof(uint64_t));
	if (!totals)
		totals = qemu_plugin_scoreboard_new(sizeof(cpus[0].total));
}

// collect takes what is on the boards of the only CPU.
static void collect(void)
{
	uint64_t *counts = NULL;

	for (size_t i = 0; i < nr_sites; i++) {
		if (i % BLOCK == 0)
			counts = qemu_plugin_scoreboard_find(boards[i / BLOCK], 0);
		nth(i)->cpu[0].count = counts[i % BLOCK];
	}
	if (totals)
		memcpy(cpus[0].total, qemu_plugin_scoreboard_find(totals, 0), sizeof(cpus[0].total));
}

static void inlined(struct qemu_plugin_insn *insn, struct site *site, int kernel)
{
	qemu_plugin_u64 here = { boards[site->number / BLOCK], site->number % BLOCK * sizeof(uint64_t) };
	qemu_plugin_u64 total = { totals, kernel * sizeof(uint64_t) };

	qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_ADD_U64, here, 1);
	qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_ADD_U64, total, 1);
}
#endif

static struct site *site(uint64_t addr)
{
	struct site **s = slot(addr);

	if (*s)
		return *s;
	if (nr_sites % BLOCK == 0) {
		blocks = must(realloc(blocks, (nr_sites / BLOCK + 1) * sizeof(*blocks)));
		blocks[nr_sites / BLOCK] = must(calloc(BLOCK, sizeof(struct site)));
		board(nr_sites / BLOCK);
	}
	*s = nth(nr_sites);
	(*s)->number = nr_sites++;
	(*s)->addr = addr;
	if (nr_sites * 2 > table_size) {
		grow();
		s = slot(addr);
	}
	return *s;
}

// kernel is 1 for an address of the kernel's half.
static int kernel(uint64_t addr)
{
	return addr >> 63;
}

// settle adds to the window what counts of the time since the last mark, which
// while it is paused is only what the kernel executed.
static void settle(struct cpu *cpu, unsigned int vcpu)
{
	uint64_t more[2];

	if (nr_cpus == 1) {
		pthread_mutex_lock(&lock);
		collect();
		pthread_mutex_unlock(&lock);
	}
	for (int k = 0; k < 2; k++) {
		more[k] = cpu->total[k] - cpu->before[k];
		cpu->before[k] = cpu->total[k];
	}
	if (cpu->state != OUTSIDE)
		cpu->window += more[1] + (cpu->state == PAUSED ? 0 : more[0]);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < nr_sites; i++) {
		struct site *site = nth(i);

		if (cpu->state == INSIDE || (cpu->state == PAUSED && kernel(site->addr)))
			site->inside += site->cpu[vcpu].count - site->cpu[vcpu].before;
		site->cpu[vcpu].before = site->cpu[vcpu].count;
	}
	pthread_mutex_unlock(&lock);
}

static void start(unsigned int vcpu, void *data)
{
	settle(&cpus[vcpu], vcpu);
	cpus[vcpu].state = INSIDE;
}

static void halt(unsigned int vcpu, void *data)
{
	settle(&cpus[vcpu], vcpu);
	if (cpus[vcpu].state == INSIDE)
		cpus[vcpu].state = PAUSED;
}

static void stop(unsigned int vcpu, void *data)
{
	settle(&cpus[vcpu], vcpu);
	pthread_mutex_lock(&lock);
	fprintf(out, "window %u %" PRIu64 "\n", vcpu, cpus[vcpu].window);
	pthread_mutex_unlock(&lock);
	cpus[vcpu].state = OUTSIDE;
	cpus[vcpu].window = 0;
}

static void next(unsigned int vcpu, void *data)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < nr_sites; i++) {
		if (nth(i)->inside)
			fprintf(out, "at %" PRIx64 " %" PRIu64 "\n", nth(i)->addr, nth(i)->inside);
		nth(i)->inside = 0;
	}
	fprintf(out, "next\n");
	fflush(out);
	pthread_mutex_unlock(&lock);
}

static void (*const marks[])(unsigned int, void *) = { NULL, start, stop, next, halt };

// marked is the number of the mark that the instruction is, 0 for any other.
static int marked(const struct qemu_plugin_insn *insn)
{
	static const unsigned char head[] = { 0x0f, 0x1f, 0x80 }, tail[] = { 0x70, 0x70, 0x70 };
	unsigned char bytes[7];

	if (qemu_plugin_insn_size(insn) != sizeof(bytes))
		return 0;
	if (reported >= 3)
		insn_data.copy(insn, bytes, sizeof(bytes));
	else
		memcpy(bytes, insn_data.where(insn), sizeof(bytes));
	if (memcmp(bytes, head, 3) || memcmp(bytes + 4, tail, 3))
		return 0;
	return bytes[3] >= 1 && bytes[3] <= 4 ? bytes[3] : 0;
}

// block counts a translation block that a CPU enters.
struct block {
	struct site *site;
	size_t insns;
};

static void enter(unsigned int vcpu, void *data)
{
	struct block *block = data;

	block->site->cpu[vcpu].count += block->insns;
	cpus[vcpu].total[kernel(block->site->addr)] += block->insns;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb), marks_in_it = 0;
	struct block *block;
	uint64_t addr;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		int mark = marked(insn);

		if (mark) {
			marks_in_it++;
			qemu_plugin_register_vcpu_insn_exec_cb(insn, marks[mark], QEMU_PLUGIN_CB_NO_REGS, NULL);
			continue;
		}
		if (nr_cpus > 1)
			continue;
		addr = qemu_plugin_insn_vaddr(insn);
		inlined(insn, site(addr), kernel(addr));
	}
	if (nr_cpus > 1) {
		// For as long as QEMU lives, like the code that points at it.
		block = must(malloc(sizeof(*block)));
		block->site = site(qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0)));
		block->insns = n - marks_in_it;
		qemu_plugin_register_vcpu_tb_exec_cb(tb, enter, QEMU_PLUGIN_CB_NO_REGS, block);
	}
	pthread_mutex_unlock(&lock);
}

// Until the first mark, whichever it is, nothing is counted: a boot with
// counters takes nine times as long.
static qemu_plugin_id_t plugin;
static bool counting;

static void count(qemu_plugin_id_t id)
{
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
}

static void first(unsigned int vcpu, void *data)
{
	if (counting)
		return;
	counting = true;
	qemu_plugin_reset(plugin, count);
}

static void booting(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		if (marked(insn))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, first, QEMU_PLUGIN_CB_NO_REGS, NULL);
	}
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	if (argc != 1 || strncmp(argv[0], "out=", 4)) {
		fprintf(stderr, "counter: want out=file\n");
		return 1;
	}
	reported = info->version.cur;
	nr_cpus = info->system.smp_vcpus;
	if (nr_cpus > CPUS) {
		fprintf(stderr, "counter: at most %d CPUs\n", CPUS);
		return 1;
	}
	out = fopen(argv[0] + 4, "w");
	if (!out) {
		perror(argv[0] + 4);
		return 1;
	}
	table = must(calloc(table_size, sizeof(*table)));
	plugin = id;
	qemu_plugin_register_vcpu_tb_trans_cb(id, booting);
	return 0;
}
