/* Stands in for libcudart where there is no GPU: memory of the host, and a stream whose work waits until it is asked
 * for, so that a wait that was forgotten, or work in another order, shows. */
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NO_MEMORY = 2, MOST = 64 };

typedef struct {
  void *to;
  const void *from;
  size_t size;
  void (*work)(long);
  long ticket;
} Step;

typedef struct {
  Step steps[MOST];
  int count;
} Work;

typedef struct {
  Work queued, captured;
  int capturing;
} Stream;

static int live = 0;
static size_t most_bytes = (size_t)-1;

/* What is allocated and not yet given back. */
int standInLive(void) { return live; }
void standInMost(size_t bytes) { most_bytes = bytes; }

static void *made(size_t size) {
  live++;
  return calloc(1, size);
}

static int given_back(void *what) {
  live--;
  free(what);
  return OK;
}

static int add(Stream *stream, Step step) {
  Work *work = stream->capturing ? &stream->captured : &stream->queued;
  work->steps[work->count++] = step;
  return OK;
}

int standInRun(Stream *stream, void (*work)(long), long ticket) {
  return add(stream, (Step){.work = work, .ticket = ticket});
}

const char *cudaGetErrorString(int status) { return status == NO_MEMORY ? "out of memory" : "another error"; }

int cudaMalloc(void **address, size_t size) {
  if (size > most_bytes) return NO_MEMORY;
  *address = made(size);
  return OK;
}
int cudaHostAlloc(void **address, size_t size, unsigned flags) {
  *address = made(size);
  return flags;
}
int cudaFree(void *address) { return given_back(address); }
int cudaFreeHost(void *address) { return given_back(address); }

int cudaStreamCreate(Stream **stream) {
  *stream = made(sizeof(Stream));
  return OK;
}
int cudaStreamDestroy(Stream *stream) { return given_back(stream); }

int cudaMemcpyAsync(void *to, const void *from, size_t size, int direction, Stream *stream) {
  if (direction != 1 && direction != 2) return 1;
  return add(stream, (Step){.to = to, .from = from, .size = size});
}

int cudaStreamSynchronize(Stream *stream) {
  if (stream->capturing) return 1;
  for (int place = 0; place < stream->queued.count; place++) {
    Step *step = &stream->queued.steps[place];
    if (step->work) step->work(step->ticket);
    else memcpy(step->to, step->from, step->size);
  }
  stream->queued.count = 0;
  return OK;
}

int cudaStreamBeginCapture(Stream *stream, int mode) {
  stream->capturing = 1;
  stream->captured.count = 0;
  return mode == 1 ? OK : 1;
}
int cudaStreamEndCapture(Stream *stream, Work **graph) {
  *graph = made(sizeof(Work));
  **graph = stream->captured;
  stream->capturing = 0;
  return OK;
}

static int instantiated(Work **runnable, Work *graph) {
  *runnable = made(sizeof(Work));
  **runnable = *graph;
  return OK;
}
#ifdef BEFORE_11_4
int cudaGraphInstantiate(Work **runnable, Work *graph, void *failed, char *log, size_t size) {
  return failed || log || size ? 1 : instantiated(runnable, graph);
}
#else
int cudaGraphInstantiateWithFlags(Work **runnable, Work *graph, unsigned long long flags) {
  return flags ? 1 : instantiated(runnable, graph);
}
#endif
int cudaGraphDestroy(Work *graph) { return given_back(graph); }
int cudaGraphExecDestroy(Work *graph) { return given_back(graph); }
int cudaGraphLaunch(Work *graph, Stream *stream) {
  for (int place = 0; place < graph->count; place++) add(stream, graph->steps[place]);
  return OK;
}
