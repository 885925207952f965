// A QEMU plugin that counts the instructions a guest executes between the marks
// of guest/mark, in all and for each address.
//
// Output, one record per line: "window <instructions>" for each window, then, at
// the end of a workload, "at <address, hex> <instructions>" for each address, the
// sum over its windows, and "next".
//
// QEMU's header is in no package of Debian's: these are the declarations of its
// plugin interface, version 1 (QEMU 4.2 to 8.2), that are used here.

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { QEMU_PLUGIN_CB_NO_REGS };
enum { QEMU_PLUGIN_INLINE_ADD_U64 };

void qemu_plugin_reset(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t));
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *ptr, uint64_t imm);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*cb)(unsigned int, void *), int flags, void *data);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

struct site {
	uint64_t addr;
	uint64_t count;	// always
	uint64_t before;	// count at the window's start
	uint64_t inside;	// in the windows of this workload
};

// Sites are in blocks that never move, because translated code points at them,
// and are found through an open hash table of their addresses.
#define BLOCK 4096
static struct site **blocks;
static size_t nr_sites;
static struct site **table;
static size_t table_size = 1 << 16;

static uint64_t total, total_before;
static bool inside;
static FILE *out;

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

static struct site *site(uint64_t addr)
{
	struct site **s = slot(addr);

	if (*s)
		return *s;
	if (nr_sites % BLOCK == 0) {
		blocks = must(realloc(blocks, (nr_sites / BLOCK + 1) * sizeof(*blocks)));
		blocks[nr_sites / BLOCK] = must(calloc(BLOCK, sizeof(struct site)));
	}
	*s = nth(nr_sites++);
	(*s)->addr = addr;
	if (nr_sites * 2 > table_size) {
		grow();
		s = slot(addr);
	}
	return *s;
}

static void start(unsigned int vcpu, void *data)
{
	for (size_t i = 0; i < nr_sites; i++)
		nth(i)->before = nth(i)->count;
	total_before = total;
	inside = true;
}

static void stop(unsigned int vcpu, void *data)
{
	if (!inside)
		return;
	inside = false;
	fprintf(out, "window %" PRIu64 "\n", total - total_before);
	for (size_t i = 0; i < nr_sites; i++)
		nth(i)->inside += nth(i)->count - nth(i)->before;
}

static void next(unsigned int vcpu, void *data)
{
	for (size_t i = 0; i < nr_sites; i++) {
		if (nth(i)->inside)
			fprintf(out, "at %" PRIx64 " %" PRIu64 "\n", nth(i)->addr, nth(i)->inside);
		nth(i)->inside = 0;
	}
	fprintf(out, "next\n");
	fflush(out);
}

static void (*const marks[])(unsigned int, void *) = { NULL, start, stop, next };

// marked is the number of the mark that the instruction is, 0 for any other.
static int marked(const struct qemu_plugin_insn *insn)
{
	static const unsigned char head[] = { 0x0f, 0x1f, 0x80 }, tail[] = { 0x70, 0x70, 0x70 };
	const unsigned char *bytes = qemu_plugin_insn_data(insn);

	if (qemu_plugin_insn_size(insn) != 7 || memcmp(bytes, head, 3) || memcmp(bytes + 4, tail, 3))
		return 0;
	return bytes[3] >= 1 && bytes[3] <= 3 ? bytes[3] : 0;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		int mark = marked(insn);

		if (mark) {
			qemu_plugin_register_vcpu_insn_exec_cb(insn, marks[mark], QEMU_PLUGIN_CB_NO_REGS, NULL);
			continue;
		}
		qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, &site(qemu_plugin_insn_vaddr(insn))->count, 1);
		qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, &total, 1);
	}
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
