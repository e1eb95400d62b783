"""Books appointments that patients are told of, one every PAUSE seconds, and prints how many mails that must make: book.py TOKEN COUNT PAUSE"""

import datetime
import json
import sys
import time
import urllib.error
import urllib.request

TOKEN, COUNT, PAUSE = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])


def ask(method, port, path, body, key):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        },
    )
    # Who is asked may be dying; the key makes asking again harmless.
    for attempt in range(120):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as fault:
            if fault.code != 503 or attempt == 119:
                raise
        except OSError:
            if attempt == 119:
                raise
        time.sleep(0.5)


ask("PUT", 8083, "/service-types/visit", {"name": "Visit", "price": {"amount": "80.00", "currency": "USD"}}, "price")
patient = {"givenName": "Ada", "familyName": "Okafor", "birthDate": "1984-02-29", "gender": "female", "email": "ada@example.org"}
patient_id = ask("POST", 8081, "/patients", patient, "told-patient")["id"]
practitioner_id = ask("POST", 8082, "/practitioners", {"name": "Dr. Lindqvist", "specialty": "General practice"}, "told-doctor")["id"]
day = datetime.datetime.now(datetime.timezone.utc).replace(hour=8, minute=0, second=0, microsecond=0)
for number in range(COUNT):
    start = day + datetime.timedelta(days=1, minutes=30 * number)
    booking = {
        "patientId": patient_id,
        "practitionerId": practitioner_id,
        "serviceType": "visit",
        "start": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "end": (start + datetime.timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    ask("POST", 8082, "/appointments", booking, f"told-{number}")
    time.sleep(PAUSE)
# One of the booking, one of its bill.
print(2 * COUNT)
