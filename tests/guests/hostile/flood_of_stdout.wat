;; Prints a hundred MiB by way of WASI.
(component
  {{types}}
  (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
  (alias export $io-error "error" (type $io-error'))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $stream (sub resource)))
    (alias outer 1 $io-error' (type $io-error''))
    (export "error" (type $error (eq $io-error'')))
    (type $stream-error' (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error')))
    (export "[method]output-stream.write" (func (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $stream (type $stream'))
    (export "output-stream" (type $stream (eq $stream')))
    (export "get-stdout" (func (result (own $stream))))))
  {{libc}}
  (core func $get (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.write") (memory $memory) (realloc $realloc)))
  (core instance $gate (export "get" (func $get)) (export "write" (func $write)))
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "gate" "get" (func $get (result i32)))
    (import "gate" "write" (func $write (param i32 i32 i32 i32)))
    (func (export "run") (param i32 i32) (result i32)
      (local $count i32) (local $stdout i32)
      (local.set $stdout (call $get))
      (memory.fill (i32.const 8192) (i32.const 97) (i32.const 65536))
      (loop $more
        (call $write (local.get $stdout) (i32.const 8192) (i32.const 65536) (i32.const 2048))
        (local.set $count (i32.add (local.get $count) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $count) (i32.const 1600))))
      (i32.store (i32.const 1028) (i32.const 16))
      (i32.store (i32.const 1032) (i32.const 4))
      (i32.const 1024))
    (data (i32.const 16) "true"))
  {{run}}
)
