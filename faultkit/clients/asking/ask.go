// Go's net/http: one Client with the default Transport.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

func ask(client *http.Client, url string, body []byte) (int, error) {
	var response *http.Response
	var err error
	if body != nil {
		response, err = client.Post(url, "application/octet-stream", bytes.NewReader(body))
	} else {
		response, err = client.Get(url)
	}
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return len(answer), err
}

func main() {
	limit, _ := strconv.ParseFloat(os.Args[1], 64)
	upload, _ := strconv.Atoi(os.Args[2])
	client := &http.Client{Timeout: time.Duration(limit * float64(time.Second))}
	for at, url := range os.Args[3:] {
		var body []byte
		if upload > 0 && at == len(os.Args)-4 {
			body = make([]byte, upload)
		}
		size, err := ask(client, url, body)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(size)
	}
}
