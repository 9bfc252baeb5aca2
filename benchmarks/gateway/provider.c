/* A provider that costs almost nothing: OpenAI's chat completions for load tests, one thread, epoll, 127.0.0.1 only.

   usage: provider PORT

   Any POST is answered with one canned completion (with usage), or, when the body has "stream":true, with events. Of a
   body over 4 KB only the first and the last 2 KB are looked at. A text "[[provider first=MS chunks=N every=MS]]" sets the time before the first byte, the number of
   chunks and the pause between them (0: as fast as the socket takes them). Each chunk's text holds `@` and the 19 digits
   of CLOCK_MONOTONIC in nanoseconds at the moment it was made, so that whoever reads it on the same machine knows how
   long it was on its way. Usage is sent in a stream when the body has "include_usage":true, as OpenAI does.
   Any GET is answered with a list of one model; GET /counts with the number of POSTs answered so far. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16384, EVENTS = 512, SMALL = 32768, LARGEST = 64 << 20 };

struct client {
  int fd;
  char *in, *out;
  size_t in_used, in_room, out_used, out_sent, out_room;
  int64_t due;     /* when the next byte may go, nanoseconds; 0: nothing waits for time */
  int waiting;     /* place in `waiting`, or -1 */
  int busy;        /* an answer is under way */
  int stream, usage, chunks, told;
  int64_t every;
  int writable;    /* EPOLLOUT is asked for */
};

static struct client *clients[MOST], *sleepers[MOST];
static int sleeping, poller;
static unsigned long long answered;

static char whole[4096], models[512];
static size_t whole_size, models_size;

#define ID "\"id\":\"chatcmpl-000000000000000000000000000\",\"created\":1750000000,\"model\":\"bench\""
#define EVENT "data: {" ID ",\"object\":\"chat.completion.chunk\",\"system_fingerprint\":\"fp_0000000000\",\"choices\":["

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_until(struct client *c, int64_t when) {
  c->due = when;
  if (c->waiting < 0) sleepers[c->waiting = sleeping++] = c;
}

static void wake(struct client *c) {
  if (c->waiting < 0) return;
  struct client *last = sleepers[--sleeping];
  sleepers[last->waiting = c->waiting] = last;
  c->waiting = -1;
  c->due = 0;
}

static void drop(struct client *c) {
  wake(c);
  clients[c->fd] = NULL;
  close(c->fd);
  free(c->in);
  free(c->out);
  free(c);
}

/* What waits goes out. -1: the peer is gone. */
static int flush(struct client *c) {
  while (c->out_sent < c->out_used) {
    ssize_t n = send(c->fd, c->out + c->out_sent, c->out_used - c->out_sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return -1;
    if (n < 0) break;
    c->out_sent += n;
  }
  int wants = c->out_sent < c->out_used;
  if (!wants) c->out_sent = c->out_used = 0;
  if (wants != c->writable) {
    struct epoll_event e = {.events = EPOLLIN | (wants ? EPOLLOUT : 0), .data.fd = c->fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    c->writable = wants;
  }
  return 0;
}

static int put(struct client *c, const char *bytes, size_t size) {
  if (c->out_used + size > c->out_room) {
    c->out_room = (c->out_used + size) * 2;
    c->out = realloc(c->out, c->out_room);
  }
  memcpy(c->out + c->out_used, bytes, size);
  c->out_used += size;
  return flush(c);
}

static int put_event(struct client *c, const char *text, int size) {
  char framed[1024];
  int n = snprintf(framed, sizeof framed, "%x\r\n%.*s\r\n", size, size, text);
  return put(c, framed, n);
}

static int begin_stream(struct client *c) {
  static const char head[] =
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
      "x-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n";
  return put(c, head, sizeof head - 1);
}

static int end_stream(struct client *c) {
  static const char stop[] = EVENT "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n";
  char usage[512];
  if (put_event(c, stop, sizeof stop - 1)) return -1;
  if (c->usage) {
    int n = snprintf(usage, sizeof usage, EVENT "],\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n",
                     c->chunks, 120 + c->chunks);
    if (put_event(c, usage, n)) return -1;
  }
  static const char done[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
  c->busy = 0;
  return put(c, done, sizeof done - 1);
}

/* Go on with an answer as far as time and socket allow. -1: the peer is gone. */
static int go_on(struct client *c) {
  if (!c->stream) {
    c->busy = 0;
    return put(c, whole, whole_size);
  }
  if (c->told == 0 && begin_stream(c)) return -1;
  while (c->told < c->chunks) {
    char text[512];
    int n = snprintf(text, sizeof text,
                     EVENT "{\"index\":0,\"delta\":{%s\"content\":\"@%019lld \"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
                     c->told ? "" : "\"role\":\"assistant\",", (long long)now());
    c->told++;
    if (put_event(c, text, n)) return -1;
    if (c->every) {
      sleep_until(c, (c->due ? c->due : now()) + c->every);
      return 0;
    }
    if (c->writable) return 0;  /* goes on when the peer has read */
  }
  wake(c);
  return end_stream(c);
}

static int64_t asked(const char *text, const char *end, const char *name, int64_t otherwise) {
  const char *at = text ? memmem(text, end - text, name, strlen(name)) : NULL;
  return at ? atoll(at + strlen(name)) : otherwise;
}

static int has(const char *body, size_t size, const char *compact, const char *spaced) {
  return memmem(body, size, compact, strlen(compact)) || memmem(body, size, spaced, strlen(spaced));
}

static int answer(struct client *c, const char *body, size_t size) {
  char ends[4096];
  if (size > sizeof ends) {
    memcpy(ends, body, sizeof ends / 2);
    memcpy(ends + sizeof ends / 2, body + size - sizeof ends / 2, sizeof ends / 2);
    body = ends;
    size = sizeof ends;
  }
  const char *text = memmem(body, size, "[[provider", 10), *end = body + size;
  if (text && (end = memmem(text, end - text, "]]", 2)) == NULL) end = body + size;
  int64_t first = asked(text, end, "first=", 0) * 1000000;
  c->stream = has(body, size, "\"stream\":true", "\"stream\": true");
  c->usage = has(body, size, "\"include_usage\":true", "\"include_usage\": true");
  c->chunks = asked(text, end, "chunks=", 20);
  c->every = asked(text, end, "every=", 0) * 1000000;
  c->told = 0;
  c->busy = 1;
  answered++;
  if (first) {
    sleep_until(c, now() + first);
    return 0;
  }
  c->due = 0;
  return go_on(c);
}

static const char *field(const char *head, const char *name) {
  const char *at = strcasestr(head, name);
  return at ? at + strlen(name) : NULL;
}

/* Length of the first message in the buffer, 0 while it is not whole; `*body`, `*size` its body as it came. */
static size_t message(struct client *c, char **body, size_t *size) {
  char *gap = memmem(c->in, c->in_used, "\r\n\r\n", 4);
  if (!gap) return 0;
  size_t head = gap + 4 - c->in;
  *gap = 0;
  const char *length = field(c->in, "\ncontent-length:"), *coding = field(c->in, "\ntransfer-encoding:");
  size_t announced = length ? strtoul(length, NULL, 10) : 0;
  *gap = '\r';
  *body = c->in + head;
  if (coding) {
    char *last = memmem(c->in + head - 2, c->in_used - head + 2, "\r\n0\r\n\r\n", 7);
    if (!last) return 0;
    *size = last - *body;
    return last + 7 - c->in;
  }
  *size = announced;
  return c->in_used < head + announced ? 0 : head + announced;
}

static int next_messages(struct client *c) {
  char *body, counts[256];
  size_t size, used;
  while (!c->busy && c->in_used && (used = message(c, &body, &size))) {
    int gone;
    if (c->in[0] == 'P') {
      gone = answer(c, body, size);
    } else if (!strncmp(c->in, "GET /counts", 11)) {
      int n = snprintf(counts, sizeof counts, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\n%020llu", answered);
      gone = put(c, counts, n);
    } else {
      gone = put(c, models, models_size);
    }
    if (gone) return -1;
    memmove(c->in, c->in + used, c->in_used - used);
    c->in_used -= used;
  }
  return 0;
}

static int readable(struct client *c) {
  for (;;) {
    if (c->in_room - c->in_used < SMALL / 2) {
      if (c->in_room >= LARGEST) return -1;
      c->in_room = c->in_room ? c->in_room * 2 : SMALL;
      c->in = realloc(c->in, c->in_room);
    }
    size_t room = c->in_room - c->in_used;
    ssize_t n = recv(c->fd, c->in + c->in_used, room, 0);
    if (n == 0) return -1;
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN ? next_messages(c) : -1;
    c->in_used += n;
    if ((size_t)n < room) return next_messages(c);
  }
}

static void take(int listener) {
  int fd, one = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (fd >= MOST) {
      close(fd);
      continue;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct client *c = clients[fd] = calloc(1, sizeof *c);
    c->fd = fd;
    c->waiting = -1;
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
  }
}

static void make_answers(void) {
  static const char body[] =
      "{" ID ",\"object\":\"chat.completion\",\"system_fingerprint\":\"fp_0000000000\",\"service_tier\":\"default\",\"choices\":[{"
      "\"index\":0,\"logprobs\":null,\"finish_reason\":\"stop\",\"message\":{\"role\":\"assistant\",\"refusal\":null,\"annotations\":[],"
      "\"content\":\"The warranty covers the frame for five years and the motor for two. Please send a picture of the label under "
      "the seat, then a new part leaves our stock on the next working day, and the old one need not come back to us. "
      "The service desk answers calls from nine to five.\"}}],"
      "\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":60,\"total_tokens\":180,\"prompt_tokens_details\":{\"cached_tokens\":0,"
      "\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0}}}";
  static const char list[] = "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1750000000,\"owned_by\":\"bench\"}]}";
  const char *head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\ncontent-length: %zu\r\n\r\n%s";
  whole_size = snprintf(whole, sizeof whole, head, sizeof body - 1, body);
  models_size = snprintf(models, sizeof models, head, sizeof list - 1, list);
}

static int wait_ms(void) {
  if (!sleeping) return -1;
  int64_t soonest = sleepers[0]->due, t = now();
  for (int i = 1; i < sleeping; i++)
    if (sleepers[i]->due < soonest) soonest = sleepers[i]->due;
  return soonest <= t ? 0 : (int)((soonest - t + 999999) / 1000000);
}

static void ring(void) {
  int64_t t = now();
  for (int i = sleeping - 1; i >= 0; i--) {
    if (i >= sleeping || sleepers[i]->due > t) continue;
    struct client *c = sleepers[i];
    if (!c->stream || !c->every) wake(c);
    if (go_on(c) || (!c->busy && next_messages(c))) drop(c);
  }
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  make_answers();
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&where, sizeof where) || listen(listener, 4096)) {
    perror("provider");
    return 1;
  }
  poller = epoll_create1(0);
  struct epoll_event events[EVENTS], first = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &first);
  for (;;) {
    int n = epoll_wait(poller, events, EVENTS, wait_ms());
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        take(listener);
        continue;
      }
      struct client *c = clients[fd];
      if (!c) continue;
      int gone = 0;
      if (events[i].events & EPOLLOUT) {
        gone = flush(c);
        if (!gone && !c->writable && c->busy && c->waiting < 0) gone = go_on(c);
        if (!gone && !c->busy) gone = next_messages(c);
      }
      if (!gone && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) gone = readable(c);
      if (gone) drop(c);
    }
    ring();
  }
}
