;; Prints a hundred MiB.
(component
  {{types}}
  (import "cantrip:guest/log@0.1.0" (instance $log
    (type $level' (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "message" string)))))
  {{libc}}
  (core func $print (canon lower (func $log "log") (memory $memory) (realloc $realloc)))
  (core instance $gate (export "print" (func $print)))
  (core module $main'
    (import "libc" "memory" (memory 1))
    (import "gate" "print" (func $print (param i32 i32 i32)))
    (func (export "run") (param i32 i32) (result i32)
      (local $count i32)
      (memory.fill (i32.const 8192) (i32.const 97) (i32.const 65536))
      (loop $more
        (call $print (i32.const 1) (i32.const 8192) (i32.const 65536))
        (local.set $count (i32.add (local.get $count) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $count) (i32.const 1600))))
      (i32.store (i32.const 1028) (i32.const 16))
      (i32.store (i32.const 1032) (i32.const 4))
      (i32.const 1024))
    (data (i32.const 16) "true"))
  {{run}}
)
