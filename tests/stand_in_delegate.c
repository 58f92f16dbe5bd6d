/* An external delegate of LiteRT that takes no operator: what it is given, and that it is asked, can be seen. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct Delegate {
  void *data;
  int (*prepare)(void *context, struct Delegate *delegate);
  void *copy_from, *copy_to, *free_handle;
  int64_t flags;
  void *builder;
} Delegate;

static int prepared = 0;
int standInPrepared(void) { return prepared; }

static int prepare(void *context, Delegate *delegate) {
  prepared++;
  return context && delegate ? 0 : 1;
}

Delegate *tflite_plugin_create_delegate(const char *const *names, const char *const *values, size_t count,
                                        void (*report)(const char *)) {
  for (size_t place = 0; place < count; place++) {
    if (strcmp(names[place], "backend") || strcmp(values[place], "htp")) {
      if (report) report("no such backend");
      return NULL;
    }
  }
  Delegate *made = calloc(1, sizeof(Delegate));
  made->prepare = prepare;
  return made;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
